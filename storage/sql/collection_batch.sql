-- The documents that were added to a tenant's collection together: how many, how many are not ready, and since when.
select count(*)::integer as documents, count(w.id)::integer as waiting, min(m.added_at) as added_at
from askonce.collection_documents m
join askonce.collections c on c.id = m.collection_id and c.tenant = $2
left join (select distinct id from askonce.waiting($1) as id) w on w.id = m.document_id
where m.collection_id = $1 and m.batch = $3
