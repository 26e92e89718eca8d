-- Responses that clients may ask for again, and follow.

create table askonce.responses (
  id           text primary key,
  tenant       text not null,
  scope        text not null,
  previous_id  text,
  model        text not null,
  key          bytea not null check (octet_length(key) = 32),
  prompt_hash  bytea not null check (octet_length(prompt_hash) = 32),
  tags         text[] not null,
  request      text not null,
  steps        bytea not null,
  provenance   text not null,
  made_by      text not null,
  created_at   timestamptz not null,
  completed_at timestamptz not null,
  epoch        bigint not null,
  stored_at    timestamptz not null default clock_timestamp()
);
comment on table askonce.responses is 'One row a response of /v1/responses, as it was given: it stays the same when its key gets a new answer.';
comment on column askonce.responses.tenant is 'Who may ask for it; scope is where its answer is kept, which tenants may share.';
comment on column askonce.responses.key is 'The answer''s key. A deletion that speaks of the answer deletes what responses have of it, too.';
comment on column askonce.responses.epoch is 'The last invalidation known before its answer was looked for.';
comment on column askonce.responses.request is 'JSON of what the client sent; NUL is escaped.';
comment on column askonce.responses.steps is 'The answer''s steps as msgpack, its usage among them.';

create index responses_key on askonce.responses (key);
create index responses_prompt_hash on askonce.responses (prompt_hash);
create index responses_scope_model on askonce.responses (scope, model);
create index responses_created_at on askonce.responses (created_at);
create index responses_tags on askonce.responses using gin (tags) where tags <> '{}';

alter table askonce.invalidations add column superseding boolean not null default false;
comment on column askonce.invalidations.superseding is 'A new answer takes the place of the old one: what was given stays given.';

-- As before, and responses go with the answers they have.
create or replace function askonce.forget(wanted_scope text, wanted_kind text, wanted_value text, number bigint, out deleted bigint)
language plpgsql as $$
begin
  -- A statement for each kind: only so can each use its index.
  case wanted_kind
    when 'key' then
      delete from askonce.responses r
        where r.key = decode(wanted_value, 'hex') and r.scope = wanted_scope and r.epoch < number;
      delete from askonce.completions c
        where c.key = decode(wanted_value, 'hex') and c.scope = wanted_scope and c.epoch < number;
    when 'prompt' then
      delete from askonce.responses r
        where r.prompt_hash = decode(wanted_value, 'hex') and r.scope = wanted_scope and r.epoch < number;
      delete from askonce.completions c
        where c.prompt_hash = decode(wanted_value, 'hex') and c.scope = wanted_scope and c.epoch < number;
    when 'model' then
      delete from askonce.responses r where r.scope = wanted_scope and r.model = wanted_value and r.epoch < number;
      delete from askonce.completions c where c.scope = wanted_scope and c.model = wanted_value and c.epoch < number;
    when 'tag' then
      delete from askonce.responses r
        where r.tags @> array[wanted_value] and r.tags <> '{}' and r.scope = wanted_scope and r.epoch < number;
      -- Who heard an answer from somebody who heard a kept one does not know the words of that.
      delete from askonce.responses r using askonce.completions c
        where r.key = c.key and r.provenance = 'coalesced' and r.scope = wanted_scope and r.epoch < number
          and c.tags @> array[wanted_value] and c.tags <> '{}' and c.scope = wanted_scope and c.epoch < number;
      delete from askonce.completions c
        where c.tags @> array[wanted_value] and c.tags <> '{}' and c.scope = wanted_scope and c.epoch < number;
    else
      delete from askonce.responses r where r.scope = wanted_scope and r.epoch < number;
      delete from askonce.completions c where c.scope = wanted_scope and c.epoch < number;
  end case;
  get diagnostics deleted = row_count;
  delete from askonce.verifications v
    where v.scope = wanted_scope
      and askonce.speaks_of(wanted_kind, wanted_value, v.key, v.prompt_hash, v.model, v.tags)
      and not exists (select from askonce.completions c where c.key = v.key and c.origin_id = v.origin_id);
end
$$;

-- New answers take the place of those of these keys: the number from which on they count. Responses keep what they gave.
create function askonce.supersede(wanted_scope text, wanted_keys text[], out id bigint) language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('askonce.invalidations'));
  with marks as (
    insert into askonce.invalidations (scope, kind, value, superseding)
      select wanted_scope, 'key', wanted.key, true from unnest(wanted_keys) as wanted(key)
      returning invalidations.id
  )
  select max(marks.id) into id from marks;
  -- Nobody else writes now, so the last number does for all of them.
  delete from askonce.completions c using unnest(wanted_keys) as wanted(key)
    where c.key = decode(wanted.key, 'hex') and c.scope = wanted_scope and c.epoch < supersede.id;
  delete from askonce.verifications v using unnest(wanted_keys) as wanted(key)
    where v.key = decode(wanted.key, 'hex') and v.scope = wanted_scope
      and not exists (select from askonce.completions c where c.key = v.key and c.origin_id = v.origin_id);
end
$$;
