-- A record that grows to millions of rows: when answers were last given, and what can be found and taken away in order.

create table askonce.hits (
  key     bytea primary key check (octet_length(key) = 32),
  hits    bigint not null,
  last_at timestamptz not null
);
comment on table askonce.hits is 'How often kept answers were given, and when last. A row outlives its answer for a while.';

create index hits_last_at on askonce.hits (last_at);

-- What a policy's time is over for is found by these; whose answers there are, by their first two columns.
create index completions_scope_model_created_at on askonce.completions (scope, model, created_at);
drop index askonce.completions_scope_model;
create index responses_scope_model_created_at on askonce.responses (scope, model, created_at);
drop index askonce.responses_scope_model;

-- The room of rows that are gone is to be used again before the table has grown by a fifth, which is Postgres' usual.
alter table askonce.completions set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.05,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000
);
alter table askonce.responses set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000
);
alter table askonce.hits set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
