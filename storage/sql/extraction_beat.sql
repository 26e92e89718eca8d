-- The worker of a run is there. In a transaction this lets no other write to the run until its end: so serials become
-- visible in their order.
update askonce.extraction_runs
set seen_at = case when ended_at is null then clock_timestamp() else seen_at end
where id = $1 and worker = $2
returning status
