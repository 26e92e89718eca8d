-- title: Usage, cost and savings by the hour
create or replace view api.usage with (security_invoker = true) as
select date_trunc('hour', minute) as hour, tenant, model, kind,
       sum(requests) as requests,
       coalesce(sum(requests) filter (where cache = 'hit'), 0) as hits,
       coalesce(sum(requests) filter (where cache = 'coalesced'), 0) as coalesced,
       coalesce(sum(prompt_tokens) filter (where cache = 'generated'), 0) as prompt_tokens,
       coalesce(sum(completion_tokens) filter (where cache = 'generated'), 0) as completion_tokens,
       coalesce(sum(prompt_tokens + completion_tokens) filter (where cache <> 'generated'), 0) as saved_tokens,
       coalesce(sum(cost_micro_usd) filter (where cache = 'generated'), 0) as cost_micro_usd,
       coalesce(sum(cost_micro_usd) filter (where cache <> 'generated'), 0) as saved_micro_usd,
       coalesce(sum(requests) filter (where cache = 'semantic'), 0) as semantic
from askonce.usage
group by 1, tenant, model, kind;

comment on column api.usage.hour is 'Which hour.';
comment on column api.usage.tenant is 'Who asked.';
comment on column api.usage.model is 'Which model.';
comment on column api.usage.kind is 'chat, completion or embedding.';
comment on column api.usage.requests is 'How many were answered; for embeddings, inputs.';
comment on column api.usage.hits is 'Of these, how many by what was kept.';
comment on column api.usage.coalesced is 'How many together with an equal one.';
comment on column api.usage.prompt_tokens is 'Tokens of prompts that a model read.';
comment on column api.usage.completion_tokens is 'Tokens that a model made.';
comment on column api.usage.saved_tokens is 'Tokens of both sorts that no model had to.';
comment on column api.usage.cost_micro_usd is 'What it cost, in millionths of a US dollar; 0 without prices.';
comment on column api.usage.saved_micro_usd is 'What it would have cost beyond that.';
comment on column api.usage.semantic is 'How many by what was kept of a question that means the same.';
