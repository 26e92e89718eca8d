-- What was said of these chunks before is not part of the run any more.
delete from askonce.chunk_calls where run_id = $1 and chunk = any($2::integer[])
