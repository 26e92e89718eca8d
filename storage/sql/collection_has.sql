-- A tenant's collection is used now; no row where there is none, or its time is over. It is written down once a minute.
with known as (
  select id, used_at from askonce.collections
  where id = $1 and tenant = $2
    and (expires_after_s is null or used_at + make_interval(secs => expires_after_s) > clock_timestamp())
), used as (
  update askonce.collections c set used_at = clock_timestamp()
  from known where c.id = known.id and known.used_at < clock_timestamp() - interval '1 minute'
)
select id from known
