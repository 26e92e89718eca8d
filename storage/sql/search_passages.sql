-- These passages of a tenant's, with what a search found marked.
select p.id as passage, p.document_id, d.title, d.meta, d.pages, p.ordinal, p.start_pos as start, p.end_pos as end, p.key,
       p.text, askonce.marked(p.text, $3) as marked
from askonce.passages p
join askonce.documents d on d.id = p.document_id
where p.id = any($2::bigint[]) and p.tenant = $1
