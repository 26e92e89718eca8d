-- Every namespace and who is in it.
select n.name, array(select m.tenant from askonce.namespace_members m where m.namespace = n.name order by 1) as tenants
from askonce.namespaces n
order by n.name
