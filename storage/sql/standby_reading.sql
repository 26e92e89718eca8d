-- Whether a standby reads along. $1 its name.
select from pg_stat_replication where application_name = $1
