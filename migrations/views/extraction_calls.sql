-- title: What models were asked about parts of documents, and which answers they gave
create or replace view api.extraction_calls with (security_invoker = true) as
select c.run_id, r.tenant, r.document_id, r.recipe, r.edition, c.chunk, c.pass, c.attempt, s.start_pos, s.end_pos,
       c.status, c.chosen, c.problems, encode(c.key, 'hex') as key, encode(c.prompt_hash, 'hex') as prompt_hash,
       c.model, c.model_version, c.engine, c.engine_version, c.backend, c.finish_reason, c.cache, c.tier, c.origin_id,
       c.prompt_tokens, c.completion_tokens, c.answered_at, c.served_at, c.duration_ms, c.error,
       c.parameters
from askonce.chunk_calls c
join askonce.extraction_runs r on r.id = c.run_id
left join askonce.chunks s on s.document_id = r.document_id and s.chunker = r.chunker and s.ordinal = c.chunk;

comment on column api.extraction_calls.run_id is 'The extraction.';
comment on column api.extraction_calls.tenant is 'Whose it is.';
comment on column api.extraction_calls.document_id is 'The document.';
comment on column api.extraction_calls.recipe is 'The name of the recipe.';
comment on column api.extraction_calls.edition is 'Which state of the recipe.';
comment on column api.extraction_calls.chunk is 'Which part of the document, from 0.';
comment on column api.extraction_calls."pass" is 'Which time over the document, from 0.';
comment on column api.extraction_calls.attempt is 'Which try of this part in this pass, from 0.';
comment on column api.extraction_calls.start_pos is 'Where the part begins, in code points.';
comment on column api.extraction_calls.end_pos is 'Where it ends.';
comment on column api.extraction_calls.status is 'What came of the call.';
comment on column api.extraction_calls.chosen is 'Its records are what its pass found.';
comment on column api.extraction_calls.problems is 'What is wrong with the answer, in words that repeat.';
comment on column api.extraction_calls.key is 'The answer, as in completions; like all that follows, null where a call failed before it was known.';
comment on column api.extraction_calls.prompt_hash is 'sha256 of what the model read.';
comment on column api.extraction_calls.model is 'The model that answered.';
comment on column api.extraction_calls.model_version is 'What names its weights.';
comment on column api.extraction_calls.engine is 'The program that ran it.';
comment on column api.extraction_calls.engine_version is 'Its version.';
comment on column api.extraction_calls.backend is 'The replica that answered.';
comment on column api.extraction_calls.finish_reason is 'Why the answer ended.';
comment on column api.extraction_calls.cache is 'hit, coalesced or generated.';
comment on column api.extraction_calls.tier is 'Where the answer was kept.';
comment on column api.extraction_calls.origin_id is 'The id of the reply that it was first given in.';
comment on column api.extraction_calls.prompt_tokens is 'Tokens of the prompt.';
comment on column api.extraction_calls.completion_tokens is 'Tokens of the answer.';
comment on column api.extraction_calls.answered_at is 'When the model said it.';
comment on column api.extraction_calls.served_at is 'When it was given to this run.';
comment on column api.extraction_calls.duration_ms is 'Milliseconds until it was given.';
comment on column api.extraction_calls.error is 'Why there is no answer.';
comment on column api.extraction_calls.parameters is 'How the model was asked to answer.';
