-- title: Collections of documents (vector stores)
create or replace view api.collections with (security_invoker = true) as
select c.id, c.tenant, c.name, c.metadata, c.created_at, c.used_at,
       (select count(*) from askonce.collection_documents d where d.collection_id = c.id) as documents
from askonce.collections c;

comment on column api.collections.id is 'What requests call it: vs_…';
comment on column api.collections.tenant is 'Whose it is.';
comment on column api.collections.name is 'What its maker calls it.';
comment on column api.collections.metadata is 'What its maker says about it.';
comment on column api.collections.created_at is 'When it was made.';
comment on column api.collections.used_at is 'When it was last searched or changed.';
comment on column api.collections.documents is 'How many documents are in it.';
