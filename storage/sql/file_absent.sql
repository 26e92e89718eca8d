-- Which of these are no documents of a tenant's.
select w.id
from unnest($2::text[]) as w (id)
where not exists (select from askonce.documents d where d.id = w.id and d.tenant = $1)
