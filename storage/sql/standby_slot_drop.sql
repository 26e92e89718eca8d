-- Nothing is kept for a standby any more. $1 slot.
select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1
