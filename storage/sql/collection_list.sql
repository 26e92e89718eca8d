-- A tenant's collections, the last first or ($4) the first, those that come after one ($3; null is all of them).
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
where c.tenant = $1
  and (
    $3::text is null
    or exists (
      select from askonce.collections a
      where a.id = $3 and a.tenant = $1
        and case when $4 then (c.created_at, c.id) > (a.created_at, a.id) else (c.created_at, c.id) < (a.created_at, a.id) end
    )
  )
order by case when $4 then c.created_at end, case when $4 then c.id end, c.created_at desc, c.id desc
limit $2
