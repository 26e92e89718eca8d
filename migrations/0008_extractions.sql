-- What was extracted of which text: documents, the runs over them, what each part was answered, and the records.

create table askonce.documents (
  id         text primary key,
  tenant     text not null,
  sha256     bytea not null check (octet_length(sha256) = 32),
  text       text not null,
  characters integer not null,
  meta       jsonb not null default '{}',
  created_at timestamptz not null,
  unique (tenant, sha256)
);
comment on table askonce.documents is 'Texts that records were extracted from, each once for a tenant.';
comment on column askonce.documents.text is 'NUL, which Postgres cannot hold, is written as U+2400, so that all places stay what they are.';
comment on column askonce.documents.meta is 'What the client said about it.';

create table askonce.recipes (
  tenant        text not null,
  name          text not null,
  edition       text not null,
  recipe        json not null,
  first_used_at timestamptz not null default clock_timestamp(),
  primary key (tenant, name, edition)
);
comment on table askonce.recipes is 'Recipes as they were used, so that a run can be understood when its recipe is another one.';
comment on column askonce.recipes.recipe is 'As it was: the order of its classes is part of what a model is told.';

create table askonce.extraction_runs (
  id          text primary key,
  tenant      text not null,
  scope       text not null,
  document_id text not null references askonce.documents (id) on delete cascade,
  recipe      text not null,
  edition     text not null,
  model       text not null,
  options     jsonb not null,
  langextract text not null,
  chunker     text not null,
  passes      integer not null,
  status      text not null
    check (status in ('in_progress', 'completed', 'incomplete', 'failed', 'cancelling', 'cancelled')),
  error       jsonb,
  counts      jsonb not null default '{}',
  chunks      integer not null,
  chunks_done integer not null default 0,
  metadata    jsonb not null default '{}',
  made_by     text not null,
  worker      text not null default '',
  created_at  timestamptz not null,
  seen_at     timestamptz not null default clock_timestamp(),
  ended_at    timestamptz
);
comment on table askonce.extraction_runs is 'One row for each time that a recipe was applied to a document.';
comment on column askonce.extraction_runs.worker is 'Who goes on with it: whoever did before, and was silent for long, writes nothing to it any more.';
comment on column askonce.extraction_runs.scope is 'Where its answers are kept, which tenants may share.';
comment on column askonce.extraction_runs.langextract is 'The version of LangExtract that found the places.';
comment on column askonce.extraction_runs.chunker is 'How the document was split: the same as in chunks.';
comment on column askonce.extraction_runs.chunks_done is 'Chunks that no pass failed in for good.';
comment on column askonce.extraction_runs.made_by is 'The id of the API key that asked; empty without keys.';
comment on column askonce.extraction_runs.seen_at is 'When its worker was last heard of: one that is silent for long is gone.';

create index extraction_runs_tenant_created_at on askonce.extraction_runs (tenant, created_at desc);
create index extraction_runs_document_id on askonce.extraction_runs (document_id);
create index extraction_runs_recipe on askonce.extraction_runs (recipe);

create table askonce.chunks (
  document_id text not null references askonce.documents (id) on delete cascade,
  chunker     text not null,
  ordinal     integer not null,
  start_pos   integer not null check (start_pos >= 0),
  end_pos     integer not null check (end_pos >= start_pos),
  sha256      bytea not null check (octet_length(sha256) = 32),
  primary key (document_id, chunker, ordinal)
);
comment on table askonce.chunks is 'The parts that documents were split into. Places are characters from the beginning, as substr counts, less one.';

create table askonce.chunk_calls (
  run_id            text not null references askonce.extraction_runs (id) on delete cascade,
  chunk             integer not null,
  pass              integer not null,
  attempt           integer not null,
  serial            bigint generated always as identity,
  status            text not null check (status in ('ok', 'empty', 'refused', 'truncated', 'invalid', 'failed')),
  chosen            boolean not null,
  problems          text[] not null,
  key               bytea check (octet_length(key) = 32),
  prompt_hash       bytea check (octet_length(prompt_hash) = 32),
  model             text not null,
  model_version     text,
  engine            text,
  engine_version    text,
  backend           text,
  finish_reason     text,
  cache             text,
  tier              text,
  origin_id         text,
  prompt_tokens     integer,
  completion_tokens integer,
  answered_at       timestamptz,
  served_at         timestamptz not null,
  duration_ms       double precision not null,
  error             jsonb,
  parameters        jsonb,
  primary key (run_id, chunk, pass, attempt)
);
comment on table askonce.chunk_calls is 'Each time a model was asked about a chunk. What it said is the answer of this key.';
comment on column askonce.chunk_calls.serial is 'Grows with each commit of a run: who knows one has missed nothing before it.';
comment on column askonce.chunk_calls.chosen is 'Its records are what its pass found; another attempt was better otherwise.';
comment on column askonce.chunk_calls.key is 'The answer''s key, as in completions; like all that follows, null where a call failed before it was known.';
comment on column askonce.chunk_calls.answered_at is 'When the model said it; served_at is when it was given to this run.';

create unique index chunk_calls_serial on askonce.chunk_calls (run_id, serial);
create index chunk_calls_key on askonce.chunk_calls (key);

create table askonce.extractions (
  run_id      text not null,
  chunk       integer not null,
  pass        integer not null,
  attempt     integer not null,
  ord         integer not null,
  class       text not null,
  text        text not null,
  attributes  jsonb,
  start_pos   integer check (start_pos >= 0),
  end_pos     integer check (end_pos >= start_pos),
  quote       text,
  alignment   text,
  group_index integer not null,
  fits        boolean not null,
  kept        boolean not null,
  verbatim    boolean not null generated always as (quote is not null and quote = text) stored,
  span        int4range generated always as (
    case when start_pos is not null and end_pos is not null then int4range(start_pos, end_pos) end
  ) stored,
  -- A tsvector has a megabyte at most, which this always fits into.
  tsv         tsvector not null generated always as (to_tsvector('simple'::regconfig, left(text, 100000))) stored,
  primary key (run_id, chunk, pass, attempt, ord)
);
comment on table askonce.extractions is 'Records: what a call found, and where in the document it stands. NUL is written as U+2400.';
comment on column askonce.extractions.text is 'As the model said it; quote is what the document says at this place.';
comment on column askonce.extractions.fits is 'Its attributes are what the recipe asks for.';
comment on column askonce.extractions.kept is 'Part of the run''s result; a later pass'' record that overlaps with an earlier one is not.';
comment on column askonce.extractions.span is 'Its place as a range, to say what overlaps with what in a run.';

create index extractions_class on askonce.extractions (class);
create index extractions_attributes on askonce.extractions using gin (attributes jsonb_path_ops);
create index extractions_tsv on askonce.extractions using gin (tsv);

-- Records go with their call. A foreign key would do the same, but looks for the call of each record that is written, which
-- takes as long as all the rest: they are written together, while no other writes to the run.
create function askonce.forget_records() returns trigger language plpgsql as $$
begin
  delete from askonce.extractions x
    where x.run_id = old.run_id and x.chunk = old.chunk and x.pass = old.pass and x.attempt = old.attempt;
  return null;
end
$$;

create trigger forget_records after delete on askonce.chunk_calls
  for each row execute function askonce.forget_records();

-- What views of a recipe make of an attribute: its value when it has the type of its column, and null otherwise.
create function askonce.text_of(value jsonb) returns text language sql immutable strict parallel safe as $$
  select case jsonb_typeof(value) when 'string' then value #>> '{}' end
$$;

create function askonce.boolean_of(value jsonb) returns boolean language sql immutable strict parallel safe as $$
  select case jsonb_typeof(value) when 'boolean' then value::boolean end
$$;

create function askonce.integer_of(value jsonb) returns bigint language sql immutable strict parallel safe as $$
  select case when jsonb_typeof(value) = 'number' then
           case when value::numeric between -9223372036854775808 and 9223372036854775807
                     and value::numeric = trunc(value::numeric)
                then value::bigint end
         end
$$;

-- JSON has numbers that are too large for this type, and some that are too near to 0.
create function askonce.number_of(value jsonb) returns double precision language sql immutable strict parallel safe as $$
  select case when jsonb_typeof(value) = 'number' then
           case when value::numeric = 0 or abs(value::numeric) between 1e-307 and 1.79e308 then value::float8 end
         end
$$;
