-- Keep a new key.
insert into askonce.api_keys (id, tenant, label, hash, scopes, models, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)
