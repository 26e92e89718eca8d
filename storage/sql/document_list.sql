-- A tenant's last documents, newest first, without their texts; only those before a moment, and after another one in
-- this order, unless these are null.
select id, tenant, sha256, '' as text, characters, meta, created_at, media_type, title, pages, passages
from askonce.documents
where tenant = $1 and ($3::float8 is null or created_at < to_timestamp($3))
  and ($4::text is null or (created_at, id) < (
    select a.created_at, a.id from askonce.documents a where a.id = $4 and a.tenant = $1
  ))
order by created_at desc, id desc
limit $2
