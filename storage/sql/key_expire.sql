-- A key ends at a given time, unless it ends sooner anyway.
update askonce.api_keys set expires_at = least(expires_at, $2) where id = $1 and revoked_at is null returning id
