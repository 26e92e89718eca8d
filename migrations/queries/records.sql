-- title: Records that a recipe ($1) has found, by document and place
select document_id, class, text, start_pos, end_pos, verbatim, attributes, key, created_at
from api.extractions
where recipe = $1
order by created_at desc, document_id, start_pos nulls last, class
