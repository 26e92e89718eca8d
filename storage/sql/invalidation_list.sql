-- What was invalidated since, in order.
select id, scope, kind, value from askonce.invalidations where id > $1 order by id
