-- Keep a document. A tenant's same text is the same document: what is said about it now counts, if anything is. What is
-- known of its pages stays when the same text comes without them, and so does the type of the file that has them.
insert into askonce.documents as kept
  (id, tenant, sha256, text, characters, meta, created_at, media_type, title, pages)
values ($1, $2, $3, $4, $5, $6::text::jsonb, to_timestamp($7::float8), $8, $9, $10)
on conflict (tenant, sha256) do update
  set meta = case excluded.meta when '{}' then kept.meta else excluded.meta end,
      title = case excluded.title when '' then kept.title else excluded.title end,
      pages = case when cardinality(excluded.pages) = 0 then kept.pages else excluded.pages end,
      media_type = case
        when excluded.media_type = 'text/plain' then kept.media_type
        when cardinality(excluded.pages) = 0 and cardinality(kept.pages) > 0 then kept.media_type
        else excluded.media_type end
returning id, meta, created_at, media_type, title, pages, passages
