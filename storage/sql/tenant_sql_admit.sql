-- The role of a tenant that has none yet; null when there is no such tenant.
select askonce.admit(t.name) from askonce.tenants t where t.name = $1
