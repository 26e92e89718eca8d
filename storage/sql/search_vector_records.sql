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
  and ($3 or x.document_id in (
    select d.id
    from askonce.documents d
    left join askonce.collection_documents c on c.document_id = d.id and c.collection_id = $4
    where d.tenant = $1
      and ($4::text is null or c.collection_id is not null)
      and ($5::text[] is null or d.id = any($5))
      and ($6::text is null
        or jsonb_path_match(d.meta || coalesce(c.attributes, '{}'), (select $6::text::jsonpath), '{}', true))
  ))
order by n.distance
limit $7
