-- A new collection.
insert into askonce.collections (id, tenant, name, description, metadata, expires_after_s)
values ($1, $2, $3, $4, $5::text::jsonb, $6)
