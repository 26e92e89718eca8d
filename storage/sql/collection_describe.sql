-- Something else is said of a document in a tenant's collection.
update askonce.collection_documents m
set attributes = $4::text::jsonb
from askonce.collections c
where c.id = m.collection_id and m.collection_id = $1 and c.tenant = $2 and m.document_id = $3
returning m.document_id
