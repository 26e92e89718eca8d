-- Kept answers in a place, by these models (null is all), whose question is the nearest to a vector. What stands in
-- braces is as for passages.
select kind, completion, 1 - distance as score
from (
  select 'prompt' as kind, e.completion, {distance} as distance
  from askonce.embeddings e
  join askonce.completions x on x.key = e.completion
  where e.model_id = {model} and e.scope = $1 and e.kind = 'prompt' and x.scope = $1
    and ($4::text[] is null or x.model = any($4))
  order by {distance}
  limit $3
) as nearest
order by distance
