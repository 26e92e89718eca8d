-- Keys by their ids, whatever their state, and what their tenants share.
select k.id, k.tenant, k.label, k.hash, k.scopes, k.models, k.created_at, k.expires_at, k.revoked_at,
       array(select m.namespace from askonce.namespace_members m where m.tenant = k.tenant order by 1) as namespaces
from askonce.api_keys k
where k.id = any ($1::text[])
