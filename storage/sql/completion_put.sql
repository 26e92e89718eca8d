-- Keep an answer, unless an invalidation speaks of it that its maker did not know. One that is there already stays as it
-- is, unless it no longer counts. What was asked for since a later invalidation wins, and then, where the maker knows
-- of something too old, what is newer: clocks differ, and a slow request is asked late.
insert into askonce.completions as kept
  (key, scope, kind, model, model_version, engine, engine_version, backend,
   prompt_hash, prompt, params, prompt_text, origin_id,
   prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by,
   fallback, cost_micro_usd)
select
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
   $14, $15, $16, $17, $18, $19, to_timestamp($20),
   $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $32, $33
where not exists (
  select from askonce.invalidations i
  where i.scope = $2 and i.id > $28 and askonce.speaks_of(i.kind, i.value, $1, $9, $4, $29)
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
     or ($31 and excluded.epoch = kept.epoch and excluded.created_at > kept.created_at)
     or exists (  -- its row is about to go
       select from askonce.invalidations i
       where i.scope = kept.scope and i.id > kept.epoch
         and askonce.speaks_of(i.kind, i.value, kept.key, kept.prompt_hash, kept.model, kept.tags)
     )
