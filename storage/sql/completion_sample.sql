-- Some of a scope's answers. Keys are hashes, so those that follow any point are as good as drawn by lot.
select key, kind, model, params, extract(epoch from created_at)::float8 as created_at
from (
  (select * from askonce.completions
   where scope = $1 and ($2::text is null or model = $2) and ($3::text[] is null or model = any($3)) and key >= $5
   order by key limit $4)
  union all
  (select * from askonce.completions
   where scope = $1 and ($2::text is null or model = $2) and ($3::text[] is null or model = any($3)) and key < $5
   order by key limit $4)
) drawn
limit $4
