-- What a tenant's role has and should not, in the catalog of this very database: a line each.
select 'tenants can read ' || c.oid::regclass || ', which shows everybody''s rows' as problem
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
  and c.relkind in ('r', 'v', 'm', 'p', 'f')
  and not (n.nspname = 'askonce' and c.relkind in ('r', 'p'))
  and has_schema_privilege($1, n.oid, 'usage') and has_any_column_privilege($1::name, c.oid, 'select')
  and not (c.relkind = 'v' and coalesce(c.reloptions @> '{security_invoker=true}', false))
union all
select 'tenants can read ' || c.oid::regclass || ' without a policy of theirs'
from pg_class c
where c.relnamespace = 'askonce'::regnamespace and c.relkind in ('r', 'p')
  and has_any_column_privilege($1, c.oid, 'select')
  and not (c.relrowsecurity and exists (
    select from pg_policy p where p.polrelid = c.oid and not p.polpermissive
      and (select m.roleid from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = $1)
        = any (p.polroles)
  ))
union all
select 'tenants can write to ' || c.oid::regclass
from pg_class c
where c.relkind in ('r', 'v', 'm', 'p', 'f') and has_table_privilege($1, c.oid, 'insert, update, delete, truncate')
union all
select 'tenants can make things in the schema ' || n.nspname
from pg_namespace n
where has_schema_privilege($1, n.oid, 'create')
union all
select 'tenants can call ' || p.oid::regprocedure || ', which has the rights of its owner'
from pg_proc p
where p.prosecdef and has_schema_privilege($1, p.pronamespace, 'usage') and has_function_privilege($1, p.oid, 'execute')
union all
select 'tenants can make temporary tables' where has_database_privilege($1, current_database(), 'temporary')
union all
select 'the role of a tenant has rights of its own'
from pg_roles r
where r.rolname = $1
  and (r.rolsuper or r.rolcreatedb or r.rolcreaterole or r.rolreplication or r.rolbypassrls
       or (select count(*) from pg_auth_members m where m.member = r.oid) <> 1)
