-- title: Documents, newest first
create or replace view api.documents with (security_invoker = true) as
select id, tenant, encode(sha256, 'hex') as sha256, characters, text, meta, created_at, media_type,
       title, pages
from askonce.documents
order by created_at desc
