-- What is left for a standby to read. $1 slot.
select wal_status from pg_replication_slots where slot_name = $1
