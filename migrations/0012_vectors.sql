-- requires: vector
-- Vectors of what is kept.

create extension if not exists vector schema public;

create table askonce.embedding_models (
  id            integer generated always as identity primary key,
  model         text not null,
  model_version text not null,
  dimensions    integer not null check (dimensions > 0),
  is_current    boolean not null default false,
  prompts_after bytea default '',
  chunks_after  bigint default 0,
  records_after text default '',
  created_at    timestamptz not null default clock_timestamp(),
  seen_at       timestamptz not null default clock_timestamp(),
  unique (model, model_version, dimensions)
);
comment on table askonce.embedding_models is 'Models that vectors are of. Vectors of different models have nothing in common, and are never compared.';
comment on column askonce.embedding_models.is_current is 'What is new is embedded by this one.';
comment on column askonce.embedding_models.prompts_after is 'How far what was kept before this model has been looked through, as for chunks and records; null is to the end.';
create unique index embedding_models_current on askonce.embedding_models (is_current) where is_current;

create table askonce.embeddings (
  id         bigint generated always as identity primary key,
  model_id   integer not null references askonce.embedding_models (id) on delete cascade,
  kind       text not null check (kind in ('prompt', 'chunk', 'record')),
  scope      text not null,
  completion bytea references askonce.completions (key) on delete cascade,
  passage    bigint references askonce.passages (id) on delete cascade,
  run_id     text,
  chunk      integer,
  pass       integer,
  attempt    integer,
  ord        integer,
  context    bytea check (octet_length(context) = 32),
  whole      boolean not null,
  embedding  halfvec not null,
  created_at timestamptz not null default clock_timestamp(),
  foreign key (run_id, chunk, pass, attempt, ord)
    references askonce.extractions (run_id, chunk, pass, attempt, ord) on delete cascade,
  check (num_nonnulls(completion, passage, run_id) = 1)
);
comment on table askonce.embeddings is 'Vectors of prompts, of passages of documents and of extracted records. Each model has an index of its own, made with its row.';
comment on column askonce.embeddings.scope is 'Whose it is: a tenant, or shared/ and a namespace.';
comment on column askonce.embeddings.context is 'Of a prompt: sha256 of everything in its key but the words of its last turn. Null where there is more to an answer than words.';
comment on column askonce.embeddings.whole is 'Whether it is of the whole text, or of its beginning, since the model takes no more.';

create unique index embeddings_completion on askonce.embeddings (completion, model_id) where completion is not null;
create unique index embeddings_passage on askonce.embeddings (passage, model_id) where passage is not null;
create unique index embeddings_record
  on askonce.embeddings (run_id, chunk, pass, attempt, ord, model_id) where run_id is not null;
create index embeddings_scope on askonce.embeddings (model_id, scope, kind);
create index embeddings_context on askonce.embeddings (context, model_id) where context is not null;

create table askonce.embedding_queue (
  id         bigint generated always as identity primary key,
  kind       text not null,
  completion bytea,
  passage    bigint,
  run_id     text,
  chunk      integer,
  pass       integer,
  attempt    integer,
  ord        integer,
  tries      integer not null default 0,
  not_before timestamptz not null default '-infinity'
);
comment on table askonce.embedding_queue is 'What is to be embedded. What it names may be gone meanwhile.';

-- What is kept waits to be embedded, while there is a model for that.
create function askonce.queue_prompts() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, completion)
      select 'prompt', a.key from added a where a.kind in ('chat', 'completion');
  end if;
  return null;
end
$$;

create function askonce.queue_chunks() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, passage) select 'chunk', a.id from added a;
  end if;
  return null;
end
$$;

create function askonce.queue_records() returns trigger language plpgsql as $$
begin
  if exists (select from askonce.embedding_models where is_current) then
    insert into askonce.embedding_queue (kind, run_id, chunk, pass, attempt, ord)
      select 'record', a.run_id, a.chunk, a.pass, a.attempt, a.ord from added a where a.kept;
  end if;
  return null;
end
$$;

create trigger queue_prompts after insert on askonce.completions
  referencing new table as added for each statement execute function askonce.queue_prompts();
create trigger queue_chunks after insert on askonce.passages
  referencing new table as added for each statement execute function askonce.queue_chunks();
create trigger queue_records after insert on askonce.extractions
  referencing new table as added for each statement execute function askonce.queue_records();

alter table askonce.embeddings enable row level security;
create policy everybody on askonce.embeddings using (true) with check (true);
alter table askonce.embedding_models enable row level security;
create policy everybody on askonce.embedding_models using (true) with check (true);
