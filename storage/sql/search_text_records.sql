-- Records of a tenant's runs by these models (null is all) that have all words, or one of them ($7); unless $3, only of
-- some documents.
with asked as materialized (
  select case when $7 then askonce.any_plain_word($2) else websearch_to_tsquery('simple'::regconfig, $2) end as words
)
select 'record' as kind, e.run_id, e.chunk, e.pass, e.attempt, e.ord,
       ts_rank(e.tsv, (select words from asked), 1)::float8 as score
from askonce.extractions e
join askonce.extraction_runs x on x.id = e.run_id
where e.tsv @@ (select words from asked where numnode(words) > 0)
  and e.kept and x.tenant = $1 and ($9::text[] is null or x.model = any($9))
  and not e.tsv @@ (select askonce.any_of($10))
  and ($3 or x.document_id in (select d from askonce.wanted_documents($1, $4, $5, $6) d))
order by score desc, e.run_id, e.chunk, e.pass, e.attempt, e.ord
limit $8
