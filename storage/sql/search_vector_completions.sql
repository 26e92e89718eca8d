-- Kept answers in a place, by these models (null is all), whose question is the nearest to a vector. What stands in
-- braces is as for passages.
with near as {fence} (
  select e.completion, {distance} as distance
  from askonce.embeddings e
  where e.model_id = {model} and e.scope = $1 and e.kind = 'prompt'
)
select 'prompt' as kind, n.completion, 1 - n.distance as score
from near n
join askonce.completions x on x.key = n.completion
where x.scope = $1 and ($4::text[] is null or x.model = any($4))
  and (cardinality($5::text[]) = 0 or not (
    to_tsvector('english'::regconfig, left(x.prompt_text, 20000)) || to_tsvector('simple'::regconfig, left(x.prompt_text, 20000))
    @@ (select askonce.any_of($5))
  ))
order by n.distance
limit $3
