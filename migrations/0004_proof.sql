-- Who asked for an answer first, and what came of asking for it again.

alter table askonce.completions add column made_by text not null default '';
comment on column askonce.completions.made_by is 'The id of the API key that asked first; empty without keys.';

create table askonce.verifications (
  id          bigint generated always as identity primary key,
  key         bytea not null check (octet_length(key) = 32),
  scope       text not null,
  origin_id   text not null,
  model       text not null,
  prompt_hash bytea not null,
  tags        text[] not null,
  outcome     text not null check (outcome in ('identical', 'diverged')),
  compared    text not null,
  divergence  jsonb,
  identity    jsonb not null,
  duration_ms double precision not null,
  made_by     text not null,
  at          timestamptz not null
);
comment on table askonce.verifications is 'Each time an answer was made anew and compared with the one that is kept.';
comment on column askonce.verifications.origin_id is 'Which answer: a key can get another one. The same as in completions.';
comment on column askonce.verifications.divergence is 'Where the two part, with some of either''s text. NUL, which jsonb cannot hold, is written as U+2400.';
comment on column askonce.verifications.identity is 'Who answered this time: engine, engine_version, model_version.';

create index verifications_key on askonce.verifications (key, origin_id, at desc);
create index verifications_scope_model on askonce.verifications (scope, model);

-- Requests that are nearly another one: those with its parameters, and those whose words begin as its do.
create index completions_params on askonce.completions (scope, hashtextextended(params, 0), created_at);
create index completions_beginning on askonce.completions (scope, hashtextextended(left(prompt_text, 64), 0), created_at);

-- Rows that the invalidation of this number is about, and what verifications quote of them, go. It is a statement after
-- the one that made the number: what did not see that number is written by then, and what is written later is refused.
create function askonce.forget(wanted_scope text, wanted_kind text, wanted_value text, number bigint, out deleted bigint)
language plpgsql as $$
begin
  -- A statement for each kind: only so can each use its index.
  case wanted_kind
    when 'key' then
      delete from askonce.completions c
        where c.key = decode(wanted_value, 'hex') and c.scope = wanted_scope and c.epoch < number;
    when 'prompt' then
      delete from askonce.completions c
        where c.prompt_hash = decode(wanted_value, 'hex') and c.scope = wanted_scope and c.epoch < number;
    when 'model' then
      delete from askonce.completions c where c.scope = wanted_scope and c.model = wanted_value and c.epoch < number;
    when 'tag' then
      delete from askonce.completions c
        where c.tags @> array[wanted_value] and c.tags <> '{}' and c.scope = wanted_scope and c.epoch < number;
    else
      delete from askonce.completions c where c.scope = wanted_scope and c.epoch < number;
  end case;
  get diagnostics deleted = row_count;
  delete from askonce.verifications v
    where v.scope = wanted_scope
      and askonce.speaks_of(wanted_kind, wanted_value, v.key, v.prompt_hash, v.model, v.tags)
      and not exists (select from askonce.completions c where c.key = v.key and c.origin_id = v.origin_id);
end
$$;

-- Keep what came of a verification; false when its answer was invalidated meanwhile. It takes turns with `invalidate`:
-- one that is not committed yet cannot be seen, and would not see this row either.
create function askonce.verified(done askonce.verifications, epoch bigint) returns boolean language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(hashtext('askonce.invalidations'));
  insert into askonce.verifications
    (key, scope, origin_id, model, prompt_hash, tags, outcome, compared, divergence, identity, duration_ms, made_by, at)
  select done.key, done.scope, done.origin_id, done.model, done.prompt_hash, done.tags, done.outcome, done.compared,
         done.divergence, done.identity, done.duration_ms, done.made_by, done.at
  where not exists (
    select from askonce.invalidations i
    where i.scope = done.scope and i.id > epoch
      and askonce.speaks_of(i.kind, i.value, done.key, done.prompt_hash, done.model, done.tags)
  );
  return found;
end
$$;
