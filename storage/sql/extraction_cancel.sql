-- A tenant's run is to end: its worker will hear of it, unless it has been silent for $3 seconds.
update askonce.extraction_runs as run
set status = case
      when run.ended_at is not null then run.status
      when run.seen_at < clock_timestamp() - make_interval(secs => $3::float8) then 'cancelled'
      else 'cancelling'
    end,
    ended_at = case
      when run.ended_at is not null then run.ended_at
      when run.seen_at < clock_timestamp() - make_interval(secs => $3::float8) then clock_timestamp()
    end
where id = $1 and tenant = $2
returning *
