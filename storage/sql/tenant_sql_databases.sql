-- Statements that keep everybody but superusers and who was let in out of the other databases of our own server.
select format('revoke connect, temporary on database %I from public', d.datname) as statement
from pg_database d
where d.datname <> current_database()
  and exists (
    select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    where a.grantee = 0 and a.privilege_type in ('CONNECT', 'TEMPORARY')
  )
