-- How far a run is: a chunk is done when no pass over it ended without an answer.
update askonce.extraction_runs
set chunks_done = (
  select count(*)
  from (
    select bool_and(status <> 'failed') as done from askonce.chunk_calls where run_id = $1 and chosen group by chunk
  ) as each_chunk
  where each_chunk.done
)
where id = $1
