-- Every answer is a row.

create schema if not exists askonce;
create schema if not exists api;

create table askonce.completions (
  key              bytea primary key check (octet_length(key) = 32),
  scope            text not null,
  kind             text not null,
  model            text not null,
  model_version    text not null,
  engine           text not null,
  engine_version   text not null,
  backend          text not null,
  prompt_hash      bytea not null check (octet_length(prompt_hash) = 32),
  prompt           text not null,
  params           text not null,
  prompt_text      text not null,
  text             text not null,
  message          text,
  finish_reason    text,
  token_ids        integer[],
  step_lengths     integer[] not null,
  seed             bigint,
  prompt_tokens    integer not null,
  completion_tokens integer not null,
  cached_tokens    integer,
  first_step_ms    double precision,
  duration_ms      double precision not null,
  cost_micro_usd   bigint not null default 0,
  origin_id        text not null,
  steps            bytea not null,
  embedding        bytea not null,
  created_at       timestamptz not null,
  stored_at        timestamptz not null default clock_timestamp()
);

comment on table askonce.completions is 'One row an answer, written once and never changed.';
comment on column askonce.completions.prompt is 'Canonical JSON (RFC 8785) of what the model read; its sha256 is prompt_hash.';
comment on column askonce.completions.steps is 'The answer''s steps as msgpack: the exact text, boundaries and timing that a replay uses.';
comment on column askonce.completions.text is 'The first choice''s text. NUL, which Postgres cannot hold, is written as U+2400; steps has the exact text.';
comment on column askonce.completions.message is 'JSON of all choices'' messages.';
comment on column askonce.completions.step_lengths is 'Characters of each step of the first choice: where the stream was cut.';

create index completions_prompt_hash on askonce.completions (prompt_hash);
create index completions_created_at on askonce.completions (created_at);
