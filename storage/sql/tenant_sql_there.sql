-- Whether a role has reached this server, which may follow another one, and at which port of the network it listens, if it
-- does. $1 the role.
select exists (select from pg_roles where rolname = $1) as is_there,
       case when current_setting('listen_addresses') <> '' then current_setting('port')::integer else 0 end as port
