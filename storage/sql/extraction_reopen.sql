-- A tenant's run goes on, if it ended before it was done, or its worker has been silent for $3 seconds. Of several who
-- ask for it at the same time one gets it.
update askonce.extraction_runs
set status = 'in_progress', worker = $4, error = null, ended_at = null, seen_at = clock_timestamp()
where id = $1 and tenant = $2 and case
        when ended_at is not null then status <> 'completed'
        else seen_at < clock_timestamp() - make_interval(secs => $3::float8)
      end
returning *
