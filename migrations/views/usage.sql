-- title: Usage, cost and savings by the hour, newest first
create or replace view api.usage with (security_invoker = true) as
select date_trunc('hour', minute) as hour, tenant, model, kind,
       sum(requests) as requests,
       coalesce(sum(requests) filter (where cache = 'hit'), 0) as hits,
       coalesce(sum(requests) filter (where cache = 'coalesced'), 0) as coalesced,
       coalesce(sum(prompt_tokens) filter (where cache = 'generated'), 0) as prompt_tokens,
       coalesce(sum(completion_tokens) filter (where cache = 'generated'), 0) as completion_tokens,
       coalesce(sum(prompt_tokens + completion_tokens) filter (where cache <> 'generated'), 0) as saved_tokens,
       coalesce(sum(cost_micro_usd) filter (where cache = 'generated'), 0) as cost_micro_usd,
       coalesce(sum(cost_micro_usd) filter (where cache <> 'generated'), 0) as saved_micro_usd
from askonce.usage
group by 1, tenant, model, kind
order by 1 desc, tenant, model, kind
