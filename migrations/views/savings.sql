-- title: Tokens, model time and cost that kept answers have saved, by day and model
create or replace view api.savings with (security_invoker = true) as
select u.day, u.tenant, u.model, u.kind, u.requests, u.hits, u.coalesced, u.saved_prompt_tokens, u.saved_completion_tokens,
       round(t.token_ms * case u.kind when 'embedding' then u.saved_prompt_tokens else u.saved_completion_tokens end)
         as saved_model_ms,
       u.saved_micro_usd, u.semantic
from (
  select (minute at time zone 'UTC')::date as day, tenant, model, kind,
         sum(requests) as requests,
         coalesce(sum(requests) filter (where cache = 'hit'), 0) as hits,
         coalesce(sum(requests) filter (where cache = 'coalesced'), 0) as coalesced,
         coalesce(sum(requests) filter (where cache = 'semantic'), 0) as semantic,
         coalesce(sum(prompt_tokens) filter (where cache <> 'generated'), 0) as saved_prompt_tokens,
         coalesce(sum(completion_tokens) filter (where cache <> 'generated'), 0) as saved_completion_tokens,
         coalesce(sum(cost_micro_usd) filter (where cache <> 'generated'), 0) as saved_micro_usd
  from askonce.usage
  group by 1, tenant, model, kind
) u
left join (
  select model, kind,
         (sum(duration_ms)
           / nullif(sum(case kind when 'embedding' then prompt_tokens else completion_tokens end), 0))::numeric as token_ms
  from askonce.completions
  group by model, kind
) t on t.model = u.model and t.kind = u.kind;

comment on column api.savings.day is 'Which day, by UTC.';
comment on column api.savings.tenant is 'Who asked.';
comment on column api.savings.model is 'Which model.';
comment on column api.savings.kind is 'chat, completion or embedding.';
comment on column api.savings.requests is 'How many were answered; for embeddings, inputs.';
comment on column api.savings.hits is 'Of these, how many by what was kept.';
comment on column api.savings.coalesced is 'How many together with an equal one.';
comment on column api.savings.saved_prompt_tokens is 'Tokens of prompts that no model had to read.';
comment on column api.savings.saved_completion_tokens is 'Tokens that no model had to make.';
comment on column api.savings.saved_model_ms is 'Estimated: the tokens that no model had to make (for embeddings, to read), times what one takes in the kept answers of that model.';
comment on column api.savings.saved_micro_usd is 'What it would have cost, in millionths of a US dollar; 0 without prices.';
comment on column api.savings.semantic is 'How many by what was kept of a question that means the same.';
