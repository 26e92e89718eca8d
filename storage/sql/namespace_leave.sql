-- A tenant may no longer use a namespace.
delete from askonce.namespace_members where namespace = $1 and tenant = $2 returning namespace
