-- How many vectors of a model there are of these kinds in a place; no more than a few are counted.
select count(*)
from (
  select from askonce.embeddings where model_id = $1 and scope = $2 and kind = any($3::text[]) limit $4
) as first
