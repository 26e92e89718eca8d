-- These passages of a tenant's, with what a search found marked, and what is said of their documents, in a collection.
select p.id as passage, p.document_id, d.title, d.pages, d.meta || coalesce(c.attributes, '{}') as attributes,
       p.ordinal, p.start_pos as start, p.end_pos as end, p.key, p.text, askonce.marked(p.text, $3) as marked
from askonce.passages p
join askonce.documents d on d.id = p.document_id
left join askonce.collection_documents c on c.document_id = d.id and c.collection_id = $4
where p.id = any($2::bigint[]) and p.tenant = $1
