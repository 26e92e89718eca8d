-- The next $2 of what was kept before the model $1: those without its vector wait for one. Nothing is left to be looked
-- through when there was no next.
with seen as (
  select c.key, c.kind, c.scope from askonce.completions c
  where c.key > (select m.prompts_after from askonce.embedding_models m where m.id = $1)
  order by c.key limit $2
), queued as (
  insert into askonce.embedding_queue (kind, scope, completion)
  select 'prompt', s.scope, s.key from seen s
  where s.kind in ('chat', 'completion')
    and not exists (select from askonce.embeddings e where e.completion = s.key and e.model_id = $1)
)
update askonce.embedding_models set prompts_after = (select key from seen order by key desc limit 1) where id = $1
