-- What was invalidated since, in order, so many at a time.
select id, scope, kind, value from askonce.invalidations where id > $1 order by id limit $2
