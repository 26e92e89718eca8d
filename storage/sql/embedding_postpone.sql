-- What could not be embedded waits longer each time, and not for ever.
with late as (
  update askonce.embedding_queue
  set tries = tries + 1, not_before = clock_timestamp() + make_interval(secs => 15 * 2 ^ least(tries, 8))
  where id = any ($1::bigint[])
  returning id, tries
)
delete from askonce.embedding_queue q using late where q.id = late.id and late.tries > $2 returning q.id
