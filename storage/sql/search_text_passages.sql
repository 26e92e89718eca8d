-- Passages of a tenant's documents that have all words, or one of them ($7); unless $3, only of some documents. What is
-- looked for is worked out once, by itself: it would be for each row otherwise. The index finds a tenant's passages with
-- these words, wherever they stand.
with asked as materialized (
  select case when $7 then askonce.any_word($2) else askonce.all_words($2) end as words
)
select 'chunk' as kind, x.id as passage, ts_rank(x.tsv, (select words from asked), 1)::float8 as score
from askonce.passages x
where askonce.owned(x.tenant, x.tsv) @@ (select askonce.owned_query($1, words) from asked where numnode(words) > 0)
  and x.tsv @@ (select askonce.owner_word($1) && words from asked)
  and not x.tsv @@ (select askonce.any_of($9))
  and ($3 or x.document_id in (select d from askonce.wanted_documents($1, $4, $5, $6) d))
order by score desc, x.id
limit $8
