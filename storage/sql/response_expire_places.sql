-- Some of the responses whose time is over by the policy of their scope and model. How many there were.
with due as (
  select r.id
  from unnest($1::text[], $2::text[]) as place (scope, model) cross join lateral (
    -- Compared as rows, so that they are found by the index of these three, however many there are of others.
    select id from askonce.responses
    where (scope, model, created_at) >= (place.scope, place.model, '-infinity')
      and (scope, model, created_at) < (place.scope, place.model, statement_timestamp() - make_interval(secs => $3))
    order by scope, model, created_at limit $4
    for update skip locked
  ) r
  limit $4
), gone as (
  delete from askonce.responses r using due where r.id = due.id returning r.id
)
select count(*) as gone from gone
