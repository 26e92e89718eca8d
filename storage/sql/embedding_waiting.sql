-- Whether there is anything to do for a model: something waits, or not everything has been looked through.
select exists (select from askonce.embedding_queue where not_before <= clock_timestamp())
    or exists (
      select from askonce.embedding_models
      where is_current and id = $1 and num_nonnulls(prompts_after, chunks_after, records_after) > 0
    )
