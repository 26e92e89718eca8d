-- Where tenants find what they do not say the place of: the views, and what pgvector has.
create or replace function askonce.tenants_path() returns text language sql stable as $$
  select concat_ws(', ', 'api', (
    select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'
  ))
$$;

-- A role for each tenant. What these settings bound is a statement at a time; whoever connects with a role of their own can
-- set some of them anew, so that none of them guards rows.
create or replace function askonce.admit(wanted text) returns name language plpgsql as $$
declare
  role_name constant name := askonce.role_of('tenant/' || wanted);
  setting record;
begin
  perform pg_advisory_xact_lock(hashtext('askonce.tenant_sql'));
  if not exists (select from pg_roles where rolname = role_name) then
    execute format('create role %I nologin', role_name);
  end if;
  execute format(
    'alter role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls inherit connection limit 8'
    ' password %L', role_name, askonce.password_of('tenant/' || wanted)
  );
  for setting in
    select * from (values
      ('search_path', askonce.tenants_path()),
      ('default_transaction_read_only', 'on'),
      ('statement_timeout', '30s'),
      ('transaction_timeout', '60s'),
      ('idle_in_transaction_session_timeout', '60s'),
      ('idle_session_timeout', '1h'),
      ('lock_timeout', '1s'),
      ('work_mem', '16MB'),
      ('temp_file_limit', '256MB'),
      ('max_parallel_workers_per_gather', '0'),
      ('cursor_tuple_fraction', '1'),
      ('client_connection_check_interval', '500ms'),
      ('jit', 'off')
    ) as settings (name, value)
  loop
    execute format(
      case setting.name when 'search_path' then 'alter role %I set %I = %s' else 'alter role %I set %I = %L' end,
      role_name, setting.name, setting.value
    );
  end loop;
  execute format('grant %I to %I with inherit true, set false', askonce.role_of('group/tenants'), role_name);
  insert into askonce.tenant_roles (role, tenant, edition) values (role_name, wanted, askonce.edition())
    on conflict (tenant) do update set role = excluded.role, edition = excluded.edition;
  return role_name;
end
$$;

-- What roles are made by: one that was made by another edition is made anew.
create or replace function askonce.edition() returns text language sql stable as $$
  select md5(p.prosrc || askonce.tenants_path()) from pg_proc p where p.oid = 'askonce.admit(text)'::regprocedure
$$;

-- Roles of tenants that there are not any more, and those that a copy of this database left behind here.
create or replace function askonce.dismiss() returns void language plpgsql as $$
declare
  item record;
begin
  for item in
    select r.rolname
    from pg_auth_members m
    join pg_roles g on g.oid = m.roleid and g.rolname = askonce.role_of('group/tenants')
    join pg_roles r on r.oid = m.member
    where not r.rolsuper and not exists (select from askonce.tenant_roles t where t.role = r.rolname)
  loop
    execute format('drop role %I', item.rolname);
  end loop;
end
$$;

delete from askonce.tenant_roles r where r.role <> askonce.role_of('tenant/' || r.tenant);
select askonce.dismiss();
select askonce.admit(t.name)
from askonce.tenants t
where not exists (
  select from askonce.tenant_roles r join pg_roles p on p.rolname = r.role
  where r.tenant = t.name and r.edition = askonce.edition()
);

-- Into this database come those whom somebody let in, and tenants once the tests have passed; and nobody makes temporary
-- tables.
do $$
begin
  execute format('grant connect, temporary on database %I to %I', current_database(), askonce.role_of('group/trusted'));
  execute format('revoke connect, temporary on database %I from public', current_database());
end
$$;
