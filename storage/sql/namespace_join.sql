-- A tenant may use a namespace from now on.
insert into askonce.namespace_members (namespace, tenant) values ($1, $2) on conflict do nothing
