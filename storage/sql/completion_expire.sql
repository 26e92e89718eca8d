-- Some of the answers whose time is over: of these scopes and models, and older than that. How many there were.
with due as (
  select c.key
  from unnest($1::text[], $2::text[]) as place (scope, model) cross join lateral (
    -- Compared as rows, so that they are found by the index of these three, however many there are of others.
    select key from askonce.completions
    where (scope, model, created_at) >= (place.scope, place.model, '-infinity')
      and (scope, model, created_at) < (place.scope, place.model, statement_timestamp() - make_interval(secs => $3))
    order by scope, model, created_at limit $4
    for update skip locked  -- who deletes others meanwhile, in another order, is not waited for
  ) c
  limit $4
), gone as (
  delete from askonce.completions c using due where c.key = due.key returning c.key
), forgotten as (
  delete from askonce.hits h using gone where h.key = gone.key
)
select count(*) as gone from gone
