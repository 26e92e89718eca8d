-- How far a run is: a chunk is done when the last attempt of none of its passes failed.
update askonce.extraction_runs
set chunks_done = (
  select count(*)
  from (
    select bool_and(last.status <> 'failed') as done
    from (
      select distinct on (chunk, pass) chunk, status
      from askonce.chunk_calls where run_id = $1
      order by chunk, pass, attempt desc
    ) as last
    group by last.chunk
  ) as each_chunk
  where each_chunk.done
)
where id = $1
