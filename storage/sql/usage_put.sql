-- Add what was answered in some minutes to what is known of them: other gateways answer too.
insert into askonce.usage as known
  (minute, tenant, model, kind, cache, requests, prompt_tokens, completion_tokens, cost_micro_usd)
select to_timestamp(minute * 60), tenant, model, kind, cache, requests, prompt_tokens, completion_tokens, cost
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::bigint[])
  as said (minute, tenant, model, kind, cache, requests, prompt_tokens, completion_tokens, cost)
on conflict (minute, tenant, model, kind, cache) do update set
  (requests, prompt_tokens, completion_tokens, cost_micro_usd)
  = (known.requests + excluded.requests, known.prompt_tokens + excluded.prompt_tokens,
     known.completion_tokens + excluded.completion_tokens, known.cost_micro_usd + excluded.cost_micro_usd)
