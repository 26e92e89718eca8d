-- Have a model be the current one, and look again through everything that is kept: it may have been away meanwhile.
insert into askonce.embedding_models as known (model, model_version, dimensions, is_current)
values ($1, $2, $3, true)
on conflict (model, model_version, dimensions) do update
  set is_current = true, prompts_after = '', chunks_after = 0, records_after = '', seen_at = clock_timestamp()
returning id
