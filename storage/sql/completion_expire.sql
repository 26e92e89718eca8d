-- Answers whose time is over: those of these scopes and models that are older than that.
delete from askonce.completions
where (scope, model) in (select * from unnest($1::text[], $2::text[]))
  and created_at < clock_timestamp() - make_interval(secs => $3)
