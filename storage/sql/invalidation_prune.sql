-- What every other tier has forgotten by now needs no mark any more. The last one stays: its number is the epoch.
delete from askonce.invalidations
where created_at < clock_timestamp() - make_interval(secs => $1)
  and id < (select max(id) from askonce.invalidations)
