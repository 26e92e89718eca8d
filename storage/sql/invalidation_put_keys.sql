-- The answers of these keys (hex) are not to be given any more; rows of theirs are gone. The number that closes them all.
select max(done.id) as id, sum(done.deleted) as deleted
from unnest($2::text[]) as wanted(value), lateral askonce.invalidate($1, 'key', wanted.value) as done
