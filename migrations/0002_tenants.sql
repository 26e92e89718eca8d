-- Who may ask: tenants, their keys, and the namespaces some of them share.

create table askonce.tenants (
  name       text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  created_at timestamptz not null default clock_timestamp()
);
comment on table askonce.tenants is 'Those who ask. Nothing kept for one is ever seen by another.';

insert into askonce.tenants (name) values ('default');

create table askonce.api_keys (
  id         text primary key,
  tenant     text not null references askonce.tenants (name) on delete cascade,
  label      text not null default '',
  hash       bytea not null check (octet_length(hash) = 32),
  scopes     text[] not null,
  models     text[],
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz,
  rotated_at timestamptz
);
comment on column askonce.api_keys.id is 'The visible beginning of the key, after ak-.';
comment on column askonce.api_keys.hash is 'sha256 of the whole key, which is kept nowhere.';
comment on column askonce.api_keys.models is 'The models it may ask; null is all of them.';

create index api_keys_tenant on askonce.api_keys (tenant);

create table askonce.namespaces (
  name       text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  created_at timestamptz not null default clock_timestamp()
);
comment on table askonce.namespaces is 'Places that several tenants may share answers in.';

create table askonce.namespace_members (
  namespace text not null references askonce.namespaces (name) on delete cascade,
  tenant    text not null references askonce.tenants (name) on delete cascade,
  joined_at timestamptz not null default clock_timestamp(),
  primary key (namespace, tenant)
);

-- Every gateway listens on this channel; what it hears is which kind of thing has changed.
create function askonce.tell() returns trigger language plpgsql as $$
begin
  perform pg_notify('askonce', tg_argv[0]);
  return null;
end
$$;

create trigger tell after insert or update or delete or truncate on askonce.api_keys
  for each statement execute function askonce.tell('keys');
create trigger tell after insert or update or delete or truncate on askonce.namespace_members
  for each statement execute function askonce.tell('keys');
