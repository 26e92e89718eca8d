-- A tenant's last documents, newest first, without their texts; only those before a moment, unless it is null.
select id, tenant, sha256, '' as text, characters, meta, created_at, media_type, title, pages, passages
from askonce.documents
where tenant = $1 and ($3::float8 is null or created_at < to_timestamp($3))
order by created_at desc, id desc
limit $2
