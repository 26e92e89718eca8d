-- New answers take the place of those of these keys; rows of theirs are gone.
select id from askonce.supersede($1, $2::text[])
