-- Whether a context has no more than so many prompts. $1 model, $2 context, $3 how many.
select count(*) <= $3 as few from (
  select from askonce.embeddings where context = $2 and model_id = $1 limit $3 + 1
) there
