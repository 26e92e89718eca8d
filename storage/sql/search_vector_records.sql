-- Records of a tenant's runs by these models (null is all), the nearest to a vector first; unless $3, only of some
-- documents. What stands in braces is as for passages.
with near as {fence} (
  select e.run_id, e.chunk, e.pass, e.attempt, e.ord, {distance} as distance
  from askonce.embeddings e
  where e.model_id = {model} and e.scope = $1 and e.kind = 'record'
)
select 'record' as kind, n.run_id, n.chunk, n.pass, n.attempt, n.ord, 1 - n.distance as score
from near n
join askonce.extraction_runs x on x.id = n.run_id
where x.tenant = $1 and ($8::text[] is null or x.model = any($8))
  and (cardinality($9::text[]) = 0 or not exists (
    select from askonce.extractions f
    where f.run_id = n.run_id and f.chunk = n.chunk and f.pass = n.pass and f.attempt = n.attempt and f.ord = n.ord
      and f.tsv @@ (select askonce.any_of($9))
  ))
  and ($3 or x.document_id in (select d from askonce.wanted_documents($1, $4, $5, $6) d))
order by n.distance
limit $7
