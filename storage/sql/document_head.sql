-- A tenant's document without its text, which may be long.
select id, tenant, sha256, '' as text, characters, meta, created_at, media_type, title, pages, passages
from askonce.documents where id = $1 and tenant = $2
