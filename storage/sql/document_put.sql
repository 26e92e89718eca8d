-- Keep a document. A tenant's same text is the same document: what is said about it now counts, if anything is.
insert into askonce.documents as kept
  (id, tenant, sha256, text, characters, meta, created_at, media_type, title, pages)
values ($1, $2, $3, $4, $5, $6::text::jsonb, to_timestamp($7::float8), $8, $9, $10)
on conflict (tenant, sha256) do update
  set meta = case excluded.meta when '{}' then kept.meta else excluded.meta end
returning id, meta, created_at, media_type, title, pages, passages
