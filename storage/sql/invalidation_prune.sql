-- What every other tier has forgotten by now needs no mark any more. The last one stays: its number is the epoch.
-- Rows that were written after they had been deleted, by a gateway that was asking just then, go with their mark.
with old as (
  select id, scope, kind, value from askonce.invalidations
  where created_at < clock_timestamp() - make_interval(secs => $1)
    and id < (select max(id) from askonce.invalidations)
), late_by_key as (
  delete from askonce.completions c using old
  where c.key = case when old.kind = 'key' then decode(old.value, 'hex') end
    and c.scope = old.scope and c.epoch < old.id
), late as (
  delete from askonce.completions c using old
  where old.kind <> 'key' and c.scope = old.scope and c.epoch < old.id
    and askonce.speaks_of(old.kind, old.value, c.key, c.prompt_hash, c.model, c.tags)
)
delete from askonce.invalidations i using old where i.id = old.id
