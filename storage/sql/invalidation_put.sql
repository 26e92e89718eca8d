-- Answers of this kind are not to be given any more; rows of theirs are gone.
select id, deleted from askonce.invalidate($1, $2, $3)
