-- Whether there is a key that is still good.
select exists (
  select from askonce.api_keys
  where revoked_at is null and (expires_at is null or expires_at > clock_timestamp())
)
