-- The statement that lets tenants' roles into this database or keeps them out; none when that is done already. $1 why they
-- may not come in, empty when they may.
select case when $1 = '' then format('grant connect on database %I to %I', d.datname, g.rolname)
            else format('revoke connect on database %I from %I', d.datname, g.rolname) end as statement
from pg_database d, pg_roles g
where d.datname = current_database() and g.rolname = askonce.role_of('group/tenants')
  and ($1 = '') <> exists (
    select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    where a.grantee = g.oid and a.privilege_type = 'CONNECT'
  )
