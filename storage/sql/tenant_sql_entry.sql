-- Whether tenants' SQL is ready as this version knows it, and with what a tenant logs in. The role is null when it has none.
select case
         when s.refused <> '' then s.refused
         when s.tested <> $2 || '/' || current_setting('server_version_num') then
           'it was tested by another version of askonce; start this one again'
         else ''
       end as refused,
       (select r.role from askonce.tenant_roles r join pg_roles p on p.rolname = r.role
         where r.tenant = $1 and r.role = askonce.role_of('tenant/' || $1)) as role,
       askonce.password_of('tenant/' || $1) as password
from askonce.tenant_sql s
