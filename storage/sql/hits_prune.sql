-- Of so many rows after a key, those of answers that are kept no more. A young one may be of an answer that is still
-- being written. How far that went, and how many there were.
with looked as materialized (
  select key, last_at from askonce.hits where key > $1 order by key limit $2
), gone as (
  delete from askonce.hits h using looked l
  where h.key = l.key and l.last_at < clock_timestamp() - interval '1 day'
    and not exists (select from askonce.completions c where c.key = l.key)
)
select max(key) as last, count(*) as looked from looked
