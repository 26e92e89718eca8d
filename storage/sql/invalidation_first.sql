-- The first invalidation that is still there.
select min(id) as id from askonce.invalidations
