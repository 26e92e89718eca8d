-- title: Collections of documents (vector stores), newest first
create or replace view api.collections with (security_invoker = true) as
select c.id, c.tenant, c.name, c.metadata, c.created_at, c.used_at,
       (select count(*) from askonce.collection_documents d where d.collection_id = c.id) as documents
from askonce.collections c
order by c.created_at desc
