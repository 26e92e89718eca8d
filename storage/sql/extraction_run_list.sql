-- A tenant's last runs, newest first; only those before a moment, over a document, of some models, and after another one in
-- this order, unless these are null.
select * from askonce.extraction_runs
where tenant = $1 and ($3::float8 is null or created_at < to_timestamp($3)) and ($4::text is null or document_id = $4)
  and ($5::text[] is null or model = any($5))
  and ($6::text is null or (created_at, id) < (
    select a.created_at, a.id from askonce.extraction_runs a where a.id = $6 and a.tenant = $1
  ))
order by created_at desc, id desc
limit $2
