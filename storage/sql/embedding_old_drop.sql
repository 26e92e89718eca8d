-- Some of a model's vectors go; the model goes with the last of them.
with gone as (
  delete from askonce.embeddings
  where id in (select id from askonce.embeddings where model_id = $1 limit $2) returning id
), last as (
  delete from askonce.embedding_models
  where id = $1 and not exists (select from askonce.embeddings e where e.model_id = $1)
)
select count(*) from gone
