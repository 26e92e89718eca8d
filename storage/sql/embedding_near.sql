-- The prompts nearest to a vector among those of one context, exactly: "+ 0" keeps an index of all vectors out of it.
-- The vector is read by itself: in its place it would be read again for each row.
-- $1 model, $2 context, $3 scope, $4 vector, $5 a key to leave out, $6 how many.
select completion as key, 1 - (embedding <=> (select $4::text::halfvec)) as similarity
from askonce.embeddings
where context = $2 and model_id = $1 and scope = $3 and whole and completion is not null and completion <> $5
order by (embedding <=> (select $4::text::halfvec)) + 0
limit $6
