-- Asked as a tenant: the views it can read, with their comments and columns. Columns that all views of recipes have say what
-- they say in api.extractions.
select c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''),
       json_agg(json_build_object(
         'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
         'comment', coalesce(col_description(c.oid, a.attnum), case when o.is_made then d.description end, '')
       ) order by a.attnum)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
cross join lateral (select starts_with(obj_description(c.oid, 'pg_class'), 'Made by askonce: ') as is_made) o
left join pg_attribute x on x.attrelid = 'api.extractions'::regclass and x.attname = a.attname and x.attnum > 0
left join pg_description d
  on d.objoid = x.attrelid and d.classoid = 'pg_class'::regclass and d.objsubid = x.attnum
where c.relnamespace = 'api'::regnamespace and c.relkind = 'v' and has_table_privilege(c.oid, 'select')
group by c.oid, c.relname
order by c.relname
