-- The document that has waited longest to be divided into passages, of the tenant whose turn is the longest ago: $1 are
-- tenants in the order of their last turns. Nobody's many documents hold up everybody else's.
select id, tenant, sha256, text
from askonce.documents
where passages = ''
order by coalesce(array_position($1::text[], tenant), 0), created_at
limit 1
