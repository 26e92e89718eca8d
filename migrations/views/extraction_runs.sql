-- title: Extractions, newest first
create or replace view api.extraction_runs with (security_invoker = true) as
select id, tenant, scope, document_id, recipe, edition, model, status, error, counts, chunks, chunks_done, passes,
       options, langextract, chunker, metadata, made_by, created_at, seen_at, ended_at
from askonce.extraction_runs
order by created_at desc
