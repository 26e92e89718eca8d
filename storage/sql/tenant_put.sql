-- A tenant that is there already stays as it is.
insert into askonce.tenants (name) values ($1) on conflict do nothing
