-- title: Answers
create or replace view api.completions with (security_invoker = true) as
select encode(key, 'hex') as key, scope, kind, model, model_version, engine, engine_version, backend,
       encode(prompt_hash, 'hex') as prompt_hash, prompt, params, prompt_text, text, message, finish_reason,
       token_ids, step_lengths, seed, prompt_tokens, completion_tokens, cached_tokens,
       first_step_ms, duration_ms, cost_micro_usd, origin_id, created_at, made_by,
       fallback
from askonce.completions;

comment on column api.completions.key is 'What names the answer: sha256 of everything that can change it, as in x-askonce-key.';
comment on column api.completions.scope is 'Where it is kept: the tenant, or shared/ and a namespace.';
comment on column api.completions.kind is 'chat, completion or embedding.';
comment on column api.completions.model is 'The model that answered, by the name clients ask for.';
comment on column api.completions.model_version is 'What names its weights.';
comment on column api.completions.engine is 'The program that ran it.';
comment on column api.completions.engine_version is 'Its version.';
comment on column api.completions.backend is 'The replica that answered.';
comment on column api.completions.prompt_hash is 'sha256 of prompt.';
comment on column api.completions.prompt is 'Canonical JSON (RFC 8785) of what the model read.';
comment on column api.completions.params is 'Canonical JSON of how it was asked to answer.';
comment on column api.completions.prompt_text is 'The words of the prompt, without roles, images or tools.';
comment on column api.completions.text is 'What the first choice says. NUL, which Postgres cannot hold, is written as U+2400.';
comment on column api.completions.message is 'JSON of all choices'' messages; NUL is escaped.';
comment on column api.completions.finish_reason is 'Why the first choice ended.';
comment on column api.completions.token_ids is 'All tokens of the first choice; null where the engine gave none.';
comment on column api.completions.step_lengths is 'Characters of each step of the first choice: where the stream was cut.';
comment on column api.completions.seed is 'The seed it was asked with.';
comment on column api.completions.prompt_tokens is 'Tokens of the prompt.';
comment on column api.completions.completion_tokens is 'Tokens of the answer, all choices together.';
comment on column api.completions.cached_tokens is 'Tokens of the prompt that the engine had computed before; null where it does not say.';
comment on column api.completions.first_step_ms is 'Milliseconds until the first step.';
comment on column api.completions.duration_ms is 'Milliseconds until the last.';
comment on column api.completions.cost_micro_usd is 'What the answer cost when it was made, in millionths of a US dollar; 0 without prices.';
comment on column api.completions.origin_id is 'The id of the reply that it was first given in.';
comment on column api.completions.created_at is 'When it was made.';
comment on column api.completions.made_by is 'The id of the API key that asked first; empty without keys.';
comment on column api.completions.fallback is 'Who should have answered, where another one did: a kind of backend, or a model.';
