-- title: What kept answers have saved, by model: tokens, hours of model time (estimated) and cost
select model, kind, sum(requests) as requests, sum(hits) as hits, sum(coalesced) as coalesced,
       round(sum(hits + coalesced) / nullif(sum(requests), 0), 4) as hit_rate,
       sum(saved_prompt_tokens + saved_completion_tokens) as saved_tokens,
       round(sum(saved_model_ms) / 3600000, 2) as saved_model_hours, sum(saved_micro_usd) / 1e6 as saved_usd
from api.savings
group by model, kind
order by saved_tokens desc, model, kind
