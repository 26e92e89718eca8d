-- A scope's last answers, newest first.
select key, kind, model, params, extract(epoch from created_at)::float8 as created_at
from askonce.completions
where scope = $1 and ($2::text is null or model = $2) and ($3::text[] is null or model = any($3))
order by created_at desc
limit $4
