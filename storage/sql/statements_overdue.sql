-- Processes whose statement takes longer than it may. $1 what the names of their roles begin with, $2 seconds.
select pid from pg_stat_activity
where starts_with(usename::text, $1) and state = 'active' and query_start < clock_timestamp() - make_interval(secs => $2)
