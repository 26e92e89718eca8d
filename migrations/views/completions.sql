-- title: Answers, newest first
create or replace view api.completions with (security_invoker = true) as
select encode(key, 'hex') as key, scope, kind, model, model_version, engine, engine_version, backend,
       encode(prompt_hash, 'hex') as prompt_hash, prompt, params, prompt_text, text, message, finish_reason,
       token_ids, step_lengths, seed, prompt_tokens, completion_tokens, cached_tokens,
       first_step_ms, duration_ms, cost_micro_usd, origin_id, created_at, made_by,
       fallback
from askonce.completions
order by created_at desc
