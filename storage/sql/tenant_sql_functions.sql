-- The functions that a role may call, each with the types of what it takes. $1 the role.
select p.proname::text as name, array(
         select format_type(t.type, null) from unnest(p.proargtypes::oid[]) with ordinality as t (type, place) order by place
       ) as takes
from pg_proc p
where p.prokind = 'f'
  and (
    p.pronamespace = 'pg_catalog'::regnamespace
    or exists (
      select from pg_depend d
      where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
    )
  )
  and has_function_privilege($1::name, p.oid, 'execute')
  and not 'internal'::regtype = any (p.proargtypes)
order by p.proname, p.oid
