-- What is not to be given any more: a numbered list that every gateway holds, so that no tier can bring it back.

create table askonce.invalidations (
  id         bigint generated always as identity primary key,
  scope      text not null,
  kind       text not null check (kind in ('key', 'model', 'tag', 'prompt', 'all')),
  value      text not null,
  created_at timestamptz not null default clock_timestamp()
);
comment on table askonce.invalidations is 'Answers of this scope, kind and value count only when their epoch is this id or later.';

create trigger tell after insert on askonce.invalidations
  for each statement execute function askonce.tell('invalidations');

alter table askonce.completions
  add column epoch bigint not null default 0,
  add column tags text[] not null default '{}';
comment on column askonce.completions.epoch is 'The last invalidation known when the model was asked.';
comment on column askonce.completions.tags is 'Words the client gave the request, to find or delete its answer by.';

create index completions_scope_created_at on askonce.completions (scope, created_at);
create index completions_scope_model on askonce.completions (scope, model);
create index completions_tags on askonce.completions using gin (tags) where tags <> '{}';

-- Ids must become visible in their order: a gateway that has seen one must not miss an earlier one later. What is being
-- written waits for it too (`storage/sql/completion_put.sql`), so this does nothing that takes long.
create function askonce.invalidate(wanted_scope text, wanted_kind text, wanted_value text, out id bigint)
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('askonce.invalidations'));
  insert into askonce.invalidations (scope, kind, value)
    values (wanted_scope, wanted_kind, wanted_value) returning invalidations.id into id;
end
$$;

-- Whether an invalidation of this kind and value is about an answer.
create function askonce.speaks_of(kind text, value text, key bytea, prompt_hash bytea, model text, tags text[])
returns boolean language sql immutable as $$
  select case kind
           when 'key' then key = decode(value, 'hex')
           when 'prompt' then prompt_hash = decode(value, 'hex')
           when 'model' then model = value
           when 'tag' then tags @> array[value]
           else true
         end
$$;
