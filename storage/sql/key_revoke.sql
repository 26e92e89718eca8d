-- A key opens nothing from now on.
update askonce.api_keys set revoked_at = clock_timestamp() where id = $1 and revoked_at is null returning id
