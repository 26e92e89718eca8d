-- Two groups: of all tenants' roles, and of who may use what everybody may use elsewhere. Neither can log in.
do $$
declare
  wanted name;
begin
  foreach wanted in array array[askonce.role_of('group/tenants'), askonce.role_of('group/trusted')] loop
    if not exists (select from pg_roles where rolname = wanted) then
      execute format('create role %I nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls', wanted);
    end if;
  end loop;
  -- Whoever is here already keeps what they had; who is made later is given it with this group.
  for wanted in
    select r.rolname
    from pg_roles r
    where r.rolcanlogin and not r.rolsuper
      and not exists (select from askonce.tenant_roles t where t.role = r.rolname)
      and not exists (
        select from pg_auth_members m join pg_roles g on g.oid = m.roleid
        where m.member = r.oid and g.rolname in (askonce.role_of('group/tenants'), askonce.role_of('group/trusted'))
      )
      and r.rolname !~ '^askonce_[0-9a-f]{24}$'
  loop
    execute format('grant %I to %I', askonce.role_of('group/trusted'), wanted);
  end loop;
  perform set_config('askonce.trusted', askonce.role_of('group/trusted'), true);
end
$$;
