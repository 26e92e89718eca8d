-- The prompts nearest to a vector among those of one context, exactly: all distances are computed first, each once, so that
-- no index of all vectors is looked into. The vector is read by itself: in its place it would be read again for each row.
-- $1 model, $2 context, $3 scope, $4 vector, $5 a key to leave out, $6 how many.
with near as materialized (
  select completion as key, embedding <=> (select $4::text::halfvec) as distance
  from askonce.embeddings
  where context = $2 and model_id = $1 and scope = $3 and whole and completion is not null and completion <> $5
)
select key, 1 - distance as similarity
from near
order by distance
limit $6
