-- A run is over. One that is to be cancelled is cancelled, unless it was complete before its worker heard of it; one that
-- is over already stays as it is.
update askonce.extraction_runs as run
set status = case when run.ended_at is not null then run.status when run.status = 'cancelling' and $2 <> 'completed' then 'cancelled' else $2 end,
    counts = case when run.ended_at is null then $3::text::jsonb else run.counts end,
    error = case when run.ended_at is null then $4::text::jsonb else run.error end,
    ended_at = coalesce(run.ended_at, to_timestamp($6::float8))
where id = $1 and worker = $5
returning status
