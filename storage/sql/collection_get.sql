-- A tenant's collection, how many documents it has, and how many of them are not found by everything yet.
select c.id, c.name, c.description, c.metadata, c.created_at, c.used_at, c.expires_after_s,
       c.used_at + make_interval(secs => c.expires_after_s) < clock_timestamp() as is_expired,
       n.documents, n.waiting, n.bytes
from askonce.collections c
cross join lateral (
  select count(*)::integer as documents,
         (count(*) filter (where d.id in (select askonce.waiting(c.id))))::integer as waiting,
         coalesce(sum(octet_length(d.text)), 0)::bigint as bytes
  from askonce.collection_documents m
  join askonce.documents d on d.id = m.document_id
  where m.collection_id = c.id
) as n
where c.id = $1 and c.tenant = $2
