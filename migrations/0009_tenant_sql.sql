-- Tenants' own SQL: whose each role of the database is, and that rows belong to tenants in the database itself. What else
-- it takes (roles, grants, revokes) is in tenant_sql/ and applied at each start, where the rights suffice.

create table askonce.tenant_sql (
  only_row   boolean primary key default true check (only_row),
  secret     bytea not null,
  tested     text not null default '',
  refused    text not null default 'it has not been prepared yet',
  changed_at timestamptz not null default clock_timestamp()
);
comment on table askonce.tenant_sql is 'Whether tenants may use SQL here, and what the names and passwords of their roles are made of.';
comment on column askonce.tenant_sql.tested is 'Which statements, rights and server were tested last; gateways that know others let nobody in.';
comment on column askonce.tenant_sql.refused is 'Why tenants may not; empty when they may.';

insert into askonce.tenant_sql (secret) values (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

create table askonce.tenant_roles (
  role    name primary key,
  tenant  text not null unique references askonce.tenants (name) on delete cascade,
  edition text not null
);
comment on table askonce.tenant_roles is 'The role that each tenant''s SQL runs as.';

-- A name that cannot be guessed. It is another one in a copy of this database, whose roles are others.
create function askonce.role_of(what text) returns name language sql stable as $$
  select ('askonce_' || left(encode(sha256(secret || convert_to('role/' || d.oid || '/' || what, 'utf8')), 'hex'), 24))::name
  from askonce.tenant_sql, pg_catalog.pg_database d where d.datname = current_database()
$$;

create function askonce.password_of(what text) returns text language sql stable as $$
  select encode(sha256(secret || convert_to('password/' || d.oid || '/' || what, 'utf8')), 'hex')
  from askonce.tenant_sql, pg_catalog.pg_database d where d.datname = current_database()
$$;

-- Whose session this is; null for all who are no tenant. `session_user`, since nobody can become another one.
create function askonce.asking_tenant() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.tenant from askonce.tenant_roles r where r.role = session_user
$$;

-- Where this tenant's answers are: its own place, and those that it shares with others.
create function askonce.asking_scopes() returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select array(
    select r.tenant from askonce.tenant_roles r where r.role = session_user
    union all
    select 'shared/' || m.namespace
    from askonce.tenant_roles r join askonce.namespace_members m on m.tenant = r.tenant
    where r.role = session_user
  )
$$;

-- Let tenants read a view of the schema `api`, which is to run with their own rights: one that runs with its owner's would
-- show them everybody's rows. Nothing is done where tenants have no roles.
create function askonce.show(view regclass) returns void language plpgsql as $$
begin
  if exists (select from pg_roles r where r.rolname = askonce.role_of('group/tenants'))
    and exists (
      select from pg_class c
      where c.oid = view and c.relkind = 'v' and c.relnamespace = 'api'::regnamespace
        and c.reloptions @> '{security_invoker=true}'
    )
  then
    execute format('grant select on %s to %I', view, askonce.role_of('group/tenants'));
  end if;
exception
  when insufficient_privilege then
    return;  -- a gateway whose role may not even look for roles has no tenants that could read it
end
$$;

-- Whoever holds a grant sees what it gave; tenants, who hold some too, are bound by what tenant_sql/4_rows.sql adds.
do $$
declare
  name text;
begin
  foreach name in array array[
    'completions', 'verifications', 'usage', 'documents', 'chunks', 'extraction_runs', 'chunk_calls', 'extractions'
  ] loop
    execute format('alter table askonce.%I enable row level security', name);
    execute format('create policy everybody on askonce.%I using (true) with check (true)', name);
  end loop;
end
$$;
