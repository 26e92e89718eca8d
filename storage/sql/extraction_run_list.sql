-- A tenant's last runs, newest first; only those before a moment, over a document and of some models, unless these are
-- null.
select * from askonce.extraction_runs
where tenant = $1 and ($3::float8 is null or created_at < to_timestamp($3)) and ($4::text is null or document_id = $4)
  and ($5::text[] is null or model = any($5))
order by created_at desc, id desc
limit $2
