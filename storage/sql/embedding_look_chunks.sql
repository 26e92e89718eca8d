-- As for prompts.
with seen as (
  select p.id, p.tenant from askonce.passages p
  where p.id > (select m.chunks_after from askonce.embedding_models m where m.id = $1)
  order by p.id limit $2
), queued as (
  insert into askonce.embedding_queue (kind, scope, passage)
  select 'chunk', s.tenant, s.id from seen s
  where not exists (select from askonce.embeddings e where e.passage = s.id and e.model_id = $1)
)
update askonce.embedding_models set chunks_after = (select max(id) from seen) where id = $1
