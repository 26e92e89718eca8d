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
where x.kept
