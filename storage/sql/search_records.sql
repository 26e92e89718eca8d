-- These records of a tenant's, with what a search found marked.
select e.run_id, e.chunk, e.pass, e.attempt, e.ord, r.document_id, d.title, d.pages, r.recipe, e.class, e.text, e.attributes,
       e.start_pos as start, e.end_pos as end, e.quote, askonce.marked(left(e.text, 4000), $7) as marked
from unnest($2::text[], $3::integer[], $4::integer[], $5::integer[], $6::integer[]) as w (run_id, chunk, pass, attempt, ord)
join askonce.extractions e using (run_id, chunk, pass, attempt, ord)
join askonce.extraction_runs r on r.id = e.run_id
join askonce.documents d on d.id = r.document_id
where r.tenant = $1
