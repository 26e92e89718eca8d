-- The document that has waited longest to be divided into passages.
select id, tenant, sha256, text
from askonce.documents
where passages = ''
order by created_at
limit 1
