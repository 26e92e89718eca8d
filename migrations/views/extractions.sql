-- title: Records that were extracted, where they stand, and which answers they are from
-- Only what is part of a run's result; what another pass said of the same words is in askonce.extractions. There is no
-- order, so that joins with this view can use the indexes.
create or replace view api.extractions with (security_invoker = true) as
select x.run_id, r.tenant, r.document_id, r.recipe, r.edition, x.class, x.text, x.quote, x.verbatim, x.start_pos,
       x.end_pos, x.span, x.attributes, x.fits, x.alignment, x.group_index, x.chunk, x.pass, x.attempt, x.ord,
       encode(c.key, 'hex') as key, encode(c.prompt_hash, 'hex') as prompt_hash, c.model, c.model_version, c.engine,
       c.engine_version, c.cache, c.tier, c.answered_at, c.served_at, r.created_at, x.tsv
from askonce.extractions x
join askonce.extraction_runs r on r.id = x.run_id
join askonce.chunk_calls c
  on c.run_id = x.run_id and c.chunk = x.chunk and c.pass = x.pass and c.attempt = x.attempt
where x.kept;

comment on column api.extractions.run_id is 'The extraction that found it.';
comment on column api.extractions.tenant is 'Whose it is.';
comment on column api.extractions.document_id is 'The document.';
comment on column api.extractions.recipe is 'The name of the recipe.';
comment on column api.extractions.edition is 'Which state of the recipe.';
comment on column api.extractions."class" is 'What it is a record of.';
comment on column api.extractions.text is 'As the model said it.';
comment on column api.extractions.quote is 'What the document says at this place.';
comment on column api.extractions.verbatim is 'Whether the two are the same, letter for letter.';
comment on column api.extractions.start_pos is 'Where it begins in the document, in code points.';
comment on column api.extractions.end_pos is 'Where it ends.';
comment on column api.extractions.span is 'Both as a range, to say what overlaps with what.';
comment on column api.extractions.attributes is 'What else the model said of it.';
comment on column api.extractions.fits is 'Its attributes are what the recipe asks for.';
comment on column api.extractions.alignment is 'How its place was found.';
comment on column api.extractions.group_index is 'Which records of the answer belong together.';
comment on column api.extractions.chunk is 'Which part of the document, from 0.';
comment on column api.extractions."pass" is 'Which time over the document, from 0.';
comment on column api.extractions.attempt is 'Which try, from 0.';
comment on column api.extractions.ord is 'Which record of the answer, from 0.';
comment on column api.extractions.key is 'The answer that it was read from, as in completions.';
comment on column api.extractions.prompt_hash is 'sha256 of what the model read.';
comment on column api.extractions.model is 'The model that answered.';
comment on column api.extractions.model_version is 'What names its weights.';
comment on column api.extractions.engine is 'The program that ran it.';
comment on column api.extractions.engine_version is 'Its version.';
comment on column api.extractions.cache is 'Where the answer came from: hit, coalesced or generated.';
comment on column api.extractions.tier is 'Where the answer was kept.';
comment on column api.extractions.answered_at is 'When the model said it.';
comment on column api.extractions.served_at is 'When the answer was given to this run.';
comment on column api.extractions.created_at is 'When the extraction was asked for.';
comment on column api.extractions.tsv is 'Its words, for full text search.';
