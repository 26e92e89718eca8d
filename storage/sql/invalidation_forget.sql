-- Rows that an invalidation is about go; how many.
select askonce.forget($1, $2, $3, $4) as deleted
