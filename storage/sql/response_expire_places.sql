-- Responses whose time is over by the policy of their scope and model.
delete from askonce.responses
where (scope, model) in (select * from unnest($1::text[], $2::text[]))
  and created_at < clock_timestamp() - make_interval(secs => $3)
