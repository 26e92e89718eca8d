-- A document is in a tenant's collection no longer; it stays a document.
delete from askonce.collection_documents m
using askonce.collections c
where c.id = m.collection_id and m.collection_id = $1 and c.tenant = $2 and m.document_id = $3
returning m.document_id
