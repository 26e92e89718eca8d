-- The answers that were used least recently, from some moment on: an answer is used when it is made and when it is given.
-- $1 the moment or null, $2 how many at most, $3 how many are looked at. Those that were made first are looked at; up to the last of
-- them in time, what was never given since it was made and what was is put in one order. Returns where to go on; null at the end.
with made as materialized (
  select key, created_at from askonce.completions where created_at >= coalesce($1::timestamptz, '-infinity') order by created_at limit $3
), seen as materialized (
  select case when count(*) < $3 then 'infinity'::timestamptz else max(created_at) end as until from made
), found as (
  select m.key, m.created_at as used_at from made m
  where not exists (select from askonce.hits h where h.key = m.key and h.last_at >= m.created_at)
  union all
  (select h.key, h.last_at
   from askonce.hits h join askonce.completions c on c.key = h.key and c.created_at <= h.last_at
   where h.last_at >= coalesce($1::timestamptz, '-infinity') and h.last_at <= (select until from seen)
   order by h.last_at limit $2)
), oldest as materialized (
  select key, used_at from found order by used_at limit $2
), free as materialized (
  select c.key from askonce.completions c join oldest o on o.key = c.key
  for update of c skip locked  -- who deletes others meanwhile, in another order, is not waited for
), gone as (
  delete from askonce.completions c using free where c.key = free.key
  returning c.key,
            pg_column_size(c.prompt) + pg_column_size(c.params) + pg_column_size(c.prompt_text) + pg_column_size(c.text)
            + coalesce(pg_column_size(c.message), 0) + coalesce(pg_column_size(c.token_ids), 0)
            + pg_column_size(c.step_lengths) + pg_column_size(c.steps) + pg_column_size(c.embedding)
            + pg_column_size(c.tags) as bytes
), forgotten as (
  delete from askonce.hits h using gone where h.key = gone.key
)
select (select count(*) from gone) as rows,
       (select coalesce(sum(bytes), 0)::bigint from gone) as bytes,
       (select case when count(*) < $2 then (select nullif(until + interval '1 microsecond', 'infinity') from seen) else max(used_at) end
        from oldest) as next
