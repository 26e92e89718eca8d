-- The same by the index of one model: its number and its dimensions, in braces, are part of what the index is.
-- $1 context, $2 scope, $3 vector, $4 a key to leave out, $5 how many.
select completion as key, 1 - (embedding <=> (select $3::text::halfvec)) as similarity
from askonce.embeddings
where context = $1 and model_id = {model} and scope = $2 and kind = 'prompt' and whole and completion <> $4
order by embedding::halfvec({dimensions}) <=> (select $3::text::halfvec({dimensions}))
limit $5
