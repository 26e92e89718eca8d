-- Keep an answer. One that is there already stays as it is, unless it no longer counts. What was asked for since a
-- later invalidation wins, and then what is newer: clocks differ, and a slow request is asked late.
insert into askonce.completions as kept
  (key, scope, kind, model, model_version, engine, engine_version, backend,
   prompt_hash, prompt, params, prompt_text, origin_id,
   prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by,
   fallback, cost_micro_usd)
values
  ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
   $14, $15, $16, $17, $18, $19, to_timestamp($20),
   $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $32, $33)
on conflict (key) do update set
  (backend, origin_id, prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms, epoch, tags, made_by,
   fallback, cost_micro_usd, stored_at)
  = (excluded.backend, excluded.origin_id, excluded.prompt_tokens, excluded.completion_tokens, excluded.cached_tokens,
     excluded.duration_ms, excluded.steps, excluded.embedding, excluded.created_at, excluded.text, excluded.message,
     excluded.finish_reason, excluded.token_ids, excluded.step_lengths, excluded.seed, excluded.first_step_ms,
     excluded.epoch, excluded.tags, excluded.made_by, excluded.fallback,
     excluded.cost_micro_usd, clock_timestamp())
  where $31 and (excluded.epoch, excluded.created_at) > (kept.epoch, kept.created_at)
