-- Collections as OpenAI's API shows them: what they are for, and which of their documents came together.

alter table askonce.collections add column description text not null default '';

alter table askonce.collection_documents add column batch text;
comment on column askonce.collection_documents.batch is 'Documents that were added by one request have the same.';
create index collection_documents_batch on askonce.collection_documents (batch) where batch is not null;

-- The documents of a collection that are not found by everything yet: not divided, or not embedded by the current model.
-- What that model cannot embed is waited for no longer once it was tried. There is nothing to wait for without pgvector.
create function askonce.waiting(wanted text) returns setof text language plpgsql stable as $$
begin
  return query
    select d.id from askonce.collection_documents c join askonce.documents d on d.id = c.document_id
    where c.collection_id = wanted and d.passages = '';
  if to_regclass('askonce.embedding_queue') is not null then
    return query
      select distinct p.document_id
      from askonce.embedding_models m
      join askonce.embedding_queue q on q.kind = 'chunk'
      join askonce.passages p on p.id = q.passage
      join askonce.collection_documents c on c.document_id = p.document_id
      where m.is_current and c.collection_id = wanted;
    return query
      select distinct p.document_id
      from askonce.embedding_models m
      join askonce.collection_documents c on c.collection_id = wanted
      join askonce.passages p on p.document_id = c.document_id and p.id > m.chunks_after
      where m.is_current
        and not exists (select from askonce.embeddings e where e.passage = p.id and e.model_id = m.id);
  end if;
end
$$;
