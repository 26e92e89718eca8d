-- Keep answers, no two of one key, unless an invalidation speaks of them that their maker did not know. One that is there
-- already stays as it is, unless it no longer counts. What was asked for since a later invalidation wins, and then, where
-- the maker knows of something too old, what is newer: clocks differ, and a slow request is asked late.
-- Each parameter is a column. Arrays in columns are text: unnest would take their elements for rows.
insert into askonce.completions as kept
  (key, scope, kind, model, model_version, engine, engine_version, backend,
   prompt_hash, prompt, params, prompt_text, origin_id,
   prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by,
   fallback, cost_micro_usd)
select
  said.key, said.scope, said.kind, said.model, said.model_version, said.engine, said.engine_version, said.backend,
  said.prompt_hash, said.prompt, said.params, said.prompt_text, said.origin_id, said.prompt_tokens,
  said.completion_tokens, said.cached_tokens, said.duration_ms, said.steps, said.embedding,
  to_timestamp(said.created_at), said.text, said.message, said.finish_reason, said.token_ids::integer[],
  said.step_lengths::integer[], said.seed, said.first_step_ms, said.epoch, said.tags::text[], said.made_by,
  said.fallback, said.cost_micro_usd
from unnest(
  $1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
  $10::text[], $11::text[], $12::text[], $13::text[], $14::integer[], $15::integer[], $16::integer[], $17::float8[],
  $18::bytea[], $19::bytea[], $20::float8[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[],
  $26::bigint[], $27::float8[], $28::bigint[], $29::text[], $30::text[], $31::boolean[], $32::text[], $33::bigint[]
) as said (
  key, scope, kind, model, model_version, engine, engine_version, backend, prompt_hash, prompt, params, prompt_text,
  origin_id, prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at, text,
  message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by, replaces, fallback,
  cost_micro_usd
)
where said.epoch >= (select coalesce(max(id), 0) from askonce.invalidations) or not exists (  -- mostly the first
  select from askonce.invalidations i
  where i.scope = said.scope and i.id > said.epoch
    and askonce.speaks_of(i.kind, i.value, said.key, said.prompt_hash, said.model, said.tags::text[])
)
on conflict (key) do update set
  (backend, origin_id, prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by,
   fallback, cost_micro_usd, stored_at)
  = (excluded.backend, excluded.origin_id, excluded.prompt_tokens, excluded.completion_tokens, excluded.cached_tokens,
     excluded.duration_ms, excluded.steps, excluded.embedding, excluded.created_at, excluded.text, excluded.message,
     excluded.finish_reason, excluded.token_ids, excluded.step_lengths, excluded.seed, excluded.first_step_ms,
     excluded.epoch, excluded.tags, excluded.made_by, excluded.fallback, excluded.cost_micro_usd, clock_timestamp())
  where excluded.epoch > kept.epoch
     or (excluded.epoch = kept.epoch and excluded.created_at > kept.created_at and exists (
       select from unnest($1::bytea[], $31::boolean[]) as said (key, replaces) where said.key = kept.key and said.replaces
     ))
     or exists (  -- its row is about to go
       select from askonce.invalidations i
       where i.scope = kept.scope and i.id > kept.epoch
         and askonce.speaks_of(i.kind, i.value, kept.key, kept.prompt_hash, kept.model, kept.tags)
     )
