-- A tenant's documents as files, the last first or ($4) the first: those after one ($3; null is all), or only one ($5).
select d.id, d.title, d.created_at, octet_length(d.text) as bytes
from askonce.documents d
where d.tenant = $1
  and ($5::text is null or d.id = $5)
  and (
    $3::text is null
    or exists (
      select from askonce.documents a
      where a.id = $3 and a.tenant = $1
        and case when $4 then (d.created_at, d.id) > (a.created_at, a.id) else (d.created_at, d.id) < (a.created_at, a.id) end
    )
  )
order by case when $4 then d.created_at end, case when $4 then d.id end, d.created_at desc, d.id desc
limit $2
