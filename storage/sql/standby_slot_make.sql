-- From now on, what a standby has not read is kept for it. $1 slot.
select pg_create_physical_replication_slot($1, true)
