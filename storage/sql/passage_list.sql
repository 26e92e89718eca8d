-- The passages of a tenant's document, in its order, from one on.
select ordinal, start_pos as start, end_pos as end, key, text
from askonce.passages
where document_id = $1 and tenant = $2 and ordinal > $3
order by ordinal
limit $4
