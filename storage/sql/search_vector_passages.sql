-- Passages of a tenant's documents, the nearest to a vector first; unless $3, only of some documents. What stands in
-- braces says how the distance is computed, and of which model, for only so does the planner see which index that is; and
-- whether all distances are computed first, so that it sees none. Where nothing narrows them, passages are looked at of
-- the nearest alone.
with near as {fence} (
  select e.passage, {distance} as distance
  from askonce.embeddings e
  where e.model_id = {model} and e.scope = $1 and e.kind = 'chunk'
),
nearest as (
  select passage, distance
  from near
  order by distance
  limit case when $3 and cardinality($8::text[]) = 0 then $7::bigint end
)
select 'chunk' as kind, n.passage, 1 - n.distance as score
from nearest n
join askonce.passages x on x.id = n.passage
where x.tenant = $1
  and (cardinality($8::text[]) = 0 or not x.tsv @@ (select askonce.any_of($8)))
  and ($3 or x.document_id in (select d from askonce.wanted_documents($1, $4, $5, $6) d))
order by n.distance
limit $7::bigint
