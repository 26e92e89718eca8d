-- A tenant's document is not wanted any more, nor what was extracted from it; unless there are runs of other models than
-- these. Null is all models.
delete from askonce.documents as doc
where id = $1 and tenant = $2
  and ($3::text[] is null or not exists (
    select from askonce.extraction_runs r where r.document_id = doc.id and r.model <> all($3)
  ))
returning id
