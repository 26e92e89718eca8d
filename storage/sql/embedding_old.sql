-- A model that nobody has used for so many seconds.
select id from askonce.embedding_models
where not is_current and seen_at < clock_timestamp() - make_interval(secs => $1) order by id limit 1
