-- Processes whose statement takes longer than it may, each of which is asked to end. $1 what the names of their roles begin
-- with; $2 seconds after which a statement is asked, $3 seconds after which one that has not ended is deaf.
select pid, pg_cancel_backend(pid) as is_asked, query_start < clock_timestamp() - make_interval(secs => $3) as is_deaf
from pg_stat_activity
where starts_with(usename::text, $1) and state = 'active' and query_start < clock_timestamp() - make_interval(secs => $2)
