-- The answers kept under these keys.
select key, scope, kind, model, model_version, engine, engine_version, backend,
       prompt_hash, prompt, params, prompt_text, origin_id,
       prompt_tokens, completion_tokens, cached_tokens, duration_ms, steps, embedding, epoch, tags, made_by,
       fallback, cost_micro_usd,
       extract(epoch from created_at)::float8 as created_at
from askonce.completions
where key = any($1::bytea[])
