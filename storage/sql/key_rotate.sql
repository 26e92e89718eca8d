-- A new key like an active one, which ends at a given time, unless it ends sooner anyway. Each is rotated once.
with found as (
  select * from askonce.api_keys
  where id = $1 and revoked_at is null and rotated_at is null
    and (expires_at is null or expires_at > clock_timestamp())
  for update
), ended as (
  update askonce.api_keys k
  set rotated_at = clock_timestamp(),
      revoked_at = case when $4::interval = interval '0' then clock_timestamp() end,
      expires_at = case when $4::interval = interval '0' then k.expires_at
                        else least(k.expires_at, clock_timestamp() + $4::interval) end
  from found where k.id = found.id
  returning k.id
)
insert into askonce.api_keys (id, tenant, label, hash, scopes, models, expires_at)
select $2, tenant, label, $3, scopes, models, clock_timestamp() + (expires_at - created_at)
from found
returning id
