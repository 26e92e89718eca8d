-- requires: vector
-- Whose turn it is to be embedded: tenants take turns, and prompts go before what is imported by the thousand.
alter table askonce.embedding_queue add column scope text not null default '';
comment on column askonce.embedding_queue.scope is 'Whose it is.';
create index embedding_queue_turns on askonce.embedding_queue (kind, scope, id);

create or replace function askonce.queue_prompts() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, scope, completion)
      select 'prompt', a.scope, a.key from added a where a.kind in ('chat', 'completion');
  end if;
  return null;
end
$$;

create or replace function askonce.queue_chunks() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, scope, passage) select 'chunk', a.tenant, a.id from added a;
  end if;
  return null;
end
$$;

create or replace function askonce.queue_records() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, scope, run_id, chunk, pass, attempt, ord)
      select 'record', r.tenant, a.run_id, a.chunk, a.pass, a.attempt, a.ord
      from added a join askonce.extraction_runs r on r.id = a.run_id where a.kept;
  end if;
  return null;
end
$$;
