-- requires: vector
-- title: Vectors of prompts, of parts of documents and of records
create or replace view api.embeddings with (security_invoker = true) as
select e.kind, e.scope, m.model, m.model_version, m.dimensions, m.is_current as current,
       encode(e.completion, 'hex') as completion, p.document_id, p.ordinal,
       e.run_id, e.chunk, e.pass, e.attempt, e.ord, e.whole, e.embedding, e.created_at
from askonce.embeddings e
join askonce.embedding_models m on m.id = e.model_id
left join askonce.passages p on p.id = e.passage
