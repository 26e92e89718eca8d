-- title: Requests, tokens and cost, by the hour and model
select hour, model, kind, requests, hits, coalesced, prompt_tokens, completion_tokens, saved_tokens,
       cost_micro_usd / 1e6 as cost_usd, saved_micro_usd / 1e6 as saved_usd
from api.usage
order by hour desc, model, kind
