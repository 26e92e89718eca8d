-- Answers to questions that mean the same as another one: how often they were given, and how often they would have been
-- right.

alter table askonce.usage drop constraint usage_cache_check;
alter table askonce.usage add constraint usage_cache_check
  check (cache in ('hit', 'semantic', 'coalesced', 'generated'));

create table askonce.semantic_trials (
  id                 bigint generated always as identity primary key,
  tenant             text not null,
  scope              text not null,
  model              text not null,
  key                bytea not null check (octet_length(key) = 32),
  source_key         bytea check (octet_length(source_key) = 32),
  similarity         double precision,
  reasons            text[] not null default '{}',
  judged_same        boolean,
  threshold          double precision not null,
  served             boolean not null,
  same_answer        boolean,
  answers_similarity double precision,
  label              text check (label in ('same', 'different')),
  asked_at           timestamptz not null,
  source_at          timestamptz,
  created_at         timestamptz not null default clock_timestamp()
);
comment on table askonce.semantic_trials is 'Questions that the model answered, and what semantic reuse would have given in place of its answer.';
comment on column askonce.semantic_trials.source_key is 'Whose answer it would have been; null where nothing near was kept.';
comment on column askonce.semantic_trials.similarity is 'Cosine of the vectors of the two questions.';
comment on column askonce.semantic_trials.reasons is 'What the guard has against it.';
comment on column askonce.semantic_trials.judged_same is 'Whether the judging model said yes; null where it was not asked.';
comment on column askonce.semantic_trials.served is 'Whether it would have been given, with the threshold of then.';
comment on column askonce.semantic_trials.answers_similarity is 'Cosine of the vectors of the two answers.';
comment on column askonce.semantic_trials.label is 'What a person says of the two questions.';
create index semantic_trials_created_at on askonce.semantic_trials (created_at);
create index semantic_trials_scope on askonce.semantic_trials (scope, model, id);

alter table askonce.semantic_trials enable row level security;
create policy everybody on askonce.semantic_trials using (true) with check (true);
