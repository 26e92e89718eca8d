-- What attacks name of the two tenants of a test.
select (select r.role::text from askonce.tenant_roles r where r.tenant = 'selftest-' || $1 || '-a') as self,
       (select r.role::text from askonce.tenant_roles r where r.tenant = 'selftest-' || $1 || '-b') as role,
       'selftest-' || $1 || '-a' as own, 'selftest-' || $1 || '-b' as other, 'selftest-' || $1 as shared,
       askonce.role_of('group/tenants')::text as group,
       encode(sha256(convert_to('selftest-' || $1 || '-b', 'utf8')), 'hex') as key
