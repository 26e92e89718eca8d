-- A tenant's response and, with $3 above 1, those before it: as many, and as much, as is asked for; the last first.
with recursive turns as (
  select r.*, 1 as turn, octet_length(r.request) + octet_length(r.steps)::bigint as bytes
  from askonce.responses r where r.id = $1 and r.tenant = $2
  union all
  select r.*, t.turn + 1, t.bytes + octet_length(r.request) + octet_length(r.steps)
  from turns t join askonce.responses r on r.id = t.previous_id and r.tenant = $2
  where t.turn < $3 and t.bytes < $4
)
select id, tenant, scope, previous_id, model, key, prompt_hash, tags, request, steps, provenance, made_by,
       extract(epoch from created_at)::float8 as created_at, extract(epoch from completed_at)::float8 as completed_at
from turns
order by turn
