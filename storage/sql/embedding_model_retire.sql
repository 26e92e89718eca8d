-- A model that nobody has used for $1 seconds is not the current one any more, and what waits would wait for ever.
with retired as (
  update askonce.embedding_models set is_current = false, seen_at = clock_timestamp()
  where is_current and seen_at <= clock_timestamp() - make_interval(secs => $1)
  returning id
)
delete from askonce.embedding_queue where exists (select from retired)
