-- The answer kept under a key.
select key, scope, kind, model, model_version, engine, engine_version, backend,
       prompt_hash, prompt, params, prompt_text, origin_id,
       prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, epoch, tags, made_by,
       fallback, cost_micro_usd,
       extract(epoch from created_at)::float8 as created_at
from askonce.completions
where key = $1
