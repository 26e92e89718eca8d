-- The answers of these keys are not to be given any more; rows of theirs are gone.
select max(done.id) as id
from unnest($2::text[]) as wanted(key),
     lateral askonce.invalidate($1, 'key', wanted.key) as done(id),
     lateral askonce.forget($1, 'key', wanted.key, done.id) as gone
