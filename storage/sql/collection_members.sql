-- Documents of a tenant's collection, the last first or ($5) the first: those after one ($4; null is all), of a batch ($6),
-- that are ready or not ($7), or only one of them ($8).
select d.id, d.title, m.attributes, m.added_at, octet_length(d.text) as bytes, w.id is not null as is_waiting
from askonce.collection_documents m
join askonce.collections c on c.id = m.collection_id and c.tenant = $2
join askonce.documents d on d.id = m.document_id
left join (select distinct id from askonce.waiting($1) as id) w on w.id = d.id
where m.collection_id = $1
  and ($6::text is null or m.batch = $6)
  and ($7::boolean is null or (w.id is null) = $7)
  and ($8::text is null or d.id = $8)
  and (
    $4::text is null
    or exists (
      select from askonce.collection_documents a
      where a.collection_id = $1 and a.document_id = $4
        and case when $5 then (m.added_at, d.id) > (a.added_at, a.document_id)
                 else (m.added_at, d.id) < (a.added_at, a.document_id) end
    )
  )
order by case when $5 then m.added_at end, case when $5 then d.id end, m.added_at desc, d.id desc
limit $3
