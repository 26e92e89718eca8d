-- title: Extractions
create or replace view api.extraction_runs with (security_invoker = true) as
select id, tenant, scope, document_id, recipe, edition, model, status, error, counts, chunks, chunks_done, passes,
       options, langextract, chunker, metadata, made_by, created_at, seen_at, ended_at
from askonce.extraction_runs;

comment on column api.extraction_runs.id is 'What the API calls it.';
comment on column api.extraction_runs.tenant is 'Whose it is.';
comment on column api.extraction_runs.scope is 'Where its answers are kept, which tenants may share.';
comment on column api.extraction_runs.document_id is 'The document.';
comment on column api.extraction_runs.recipe is 'The name of the recipe.';
comment on column api.extraction_runs.edition is 'Which state of the recipe.';
comment on column api.extraction_runs.model is 'The model that was asked.';
comment on column api.extraction_runs.status is 'How far it is, or how it ended.';
comment on column api.extraction_runs.error is 'Why it failed.';
comment on column api.extraction_runs.counts is 'How many records, calls and tokens.';
comment on column api.extraction_runs.chunks is 'How many parts the document has.';
comment on column api.extraction_runs.chunks_done is 'Parts that no pass failed in for good.';
comment on column api.extraction_runs.passes is 'How often the document is read.';
comment on column api.extraction_runs.options is 'How it was asked for.';
comment on column api.extraction_runs.langextract is 'The version of LangExtract that found the places.';
comment on column api.extraction_runs.chunker is 'How the document was split.';
comment on column api.extraction_runs.metadata is 'What the client said about it.';
comment on column api.extraction_runs.made_by is 'The id of the API key that asked; empty without keys.';
comment on column api.extraction_runs.created_at is 'When it was asked for.';
comment on column api.extraction_runs.seen_at is 'When its worker was last heard of.';
comment on column api.extraction_runs.ended_at is 'When it ended.';
