-- Some of the responses whose time is over, whatever the policies say. How many there were.
with due as (
  select id from askonce.responses where created_at < statement_timestamp() - make_interval(secs => $1)
  order by created_at limit $2
  for update skip locked
), gone as (
  delete from askonce.responses r using due where r.id = due.id returning r.id
)
select count(*) as gone from gone
