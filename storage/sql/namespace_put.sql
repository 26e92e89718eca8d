-- A new namespace.
insert into askonce.namespaces (name) values ($1)
