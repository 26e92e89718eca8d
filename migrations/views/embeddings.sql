-- requires: vector
-- title: Vectors of prompts, of parts of documents and of records
create or replace view api.embeddings with (security_invoker = true) as
select e.kind, e.scope, m.model, m.model_version, m.dimensions, m.is_current as current,
       encode(e.completion, 'hex') as completion, p.document_id, p.ordinal,
       e.run_id, e.chunk, e.pass, e.attempt, e.ord, e.whole, e.embedding, e.created_at
from askonce.embeddings e
join askonce.embedding_models m on m.id = e.model_id
left join askonce.passages p on p.id = e.passage;

comment on column api.embeddings.kind is 'prompt, chunk (of a document) or record (that was extracted).';
comment on column api.embeddings.scope is 'Whose it is: a tenant, or shared/ and a namespace.';
comment on column api.embeddings.model is 'The model that embedded it, by the name that clients use.';
comment on column api.embeddings.model_version is 'Its weights.';
comment on column api.embeddings.dimensions is 'How many numbers the vector has.';
comment on column api.embeddings.current is 'Whether this model embeds what is new; only such are searched.';
comment on column api.embeddings.completion is 'Of a prompt: the key of its answer, as in completions.';
comment on column api.embeddings.document_id is 'Of a chunk: the document, as in chunks.';
comment on column api.embeddings.ordinal is 'Of a chunk: which part of the document.';
comment on column api.embeddings.run_id is 'Of a record: the run that found it, as in extractions, like the four that follow.';
comment on column api.embeddings.chunk is 'Which chunk of the run it is from.';
comment on column api.embeddings.pass is 'Which pass over the text.';
comment on column api.embeddings.attempt is 'Which attempt of that pass.';
comment on column api.embeddings.ord is 'Which record of that attempt.';
comment on column api.embeddings.whole is 'Whether it is of the whole text, or of its beginning.';
comment on column api.embeddings.embedding is 'The vector, of length 1 in 16-bit numbers; <=> is the cosine distance.';
comment on column api.embeddings.created_at is 'When it was made.';
