-- The prompts nearest to a vector among those of one context, exactly: all distances are computed first, each once, so that
-- no index of all vectors is looked into. The vector is read by itself: in its place it would be read again for each row.
-- The model's number, in braces, is part of what the index is that has a context's vectors beside each other.
-- $1 context, $2 scope, $3 vector, $4 a key to leave out, $5 how many.
with near as materialized (
  select completion as key, embedding <=> (select $3::text::halfvec) as distance
  from askonce.embeddings
  where context = $1 and model_id = {model} and scope = $2 and kind = 'prompt' and whole and completion <> $4
)
select key, 1 - distance as similarity
from near
order by distance
limit $5
