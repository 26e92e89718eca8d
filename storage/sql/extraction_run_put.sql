-- A run begins. One that has begun already is the same: whoever was not heard said it twice.
insert into askonce.extraction_runs
  (id, tenant, scope, document_id, recipe, edition, model, options, langextract, chunker, passes, status, counts, chunks,
   metadata, made_by, created_at, worker)
values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13::text::jsonb, $14, $15::text::jsonb, $16,
        to_timestamp($17::float8), $18)
on conflict (id) do nothing
