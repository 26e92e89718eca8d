-- Asked as a tenant: the views it can read, with their columns.
select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace = 'api'::regnamespace and c.relkind = 'v' and a.attnum > 0 and not a.attisdropped
  and has_table_privilege(c.oid, 'select')
order by c.relname, a.attnum
