-- Where applied migrations are remembered.
create schema if not exists askonce;
create table if not exists askonce.migrations (
  number     integer primary key,
  name       text not null,
  sha256     text not null,
  applied_at timestamptz not null default clock_timestamp()
)
