-- Keep an answer. One that is there already stays as it is.
insert into askonce.completions
  (key, scope, kind, model, model_version, engine, engine_version, backend,
   prompt_hash, prompt, params, prompt_text, origin_id,
   prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, created_at,
   text, message, finish_reason, token_ids, step_lengths, seed, first_step_ms)
values
  ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
   $14, $15, $16, $17, $18, $19, to_timestamp($20),
   $21, $22, $23, $24, $25, $26, $27)
on conflict (key) do nothing
