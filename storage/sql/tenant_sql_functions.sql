-- The functions that a role may call, each with the types of what it takes. $1 the role.
select p.proname::text as name, array(
         select format_type(t.type, null) from unnest(p.proargtypes::oid[]) with ordinality as t (type, place) order by place
       ) as takes
from pg_proc p
where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and has_function_privilege($1::name, p.oid, 'execute')
  and not 'internal'::regtype = any (p.proargtypes)
order by p.proname, p.oid
