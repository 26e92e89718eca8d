-- title: What models were asked about parts of documents, and which answers they gave
create or replace view api.extraction_calls with (security_invoker = true) as
select c.run_id, r.tenant, r.document_id, r.recipe, r.edition, c.chunk, c.pass, c.attempt, s.start_pos, s.end_pos,
       c.status, c.chosen, c.problems, encode(c.key, 'hex') as key, encode(c.prompt_hash, 'hex') as prompt_hash,
       c.model, c.model_version, c.engine, c.engine_version, c.backend, c.finish_reason, c.cache, c.tier, c.origin_id,
       c.prompt_tokens, c.completion_tokens, c.answered_at, c.served_at, c.duration_ms, c.error,
       c.parameters
from askonce.chunk_calls c
join askonce.extraction_runs r on r.id = c.run_id
left join askonce.chunks s on s.document_id = r.document_id and s.chunker = r.chunker and s.ordinal = c.chunk
