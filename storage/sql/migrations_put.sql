-- Remember an applied migration.
insert into askonce.migrations (number, name, sha256) values ($1, $2, $3)
