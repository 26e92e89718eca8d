-- These answers in a place: the ends of their questions, the beginnings of what was said, with what a search found marked.
select c.key, c.model, c.created_at, right(c.prompt_text, 1000) as prompt, left(c.text, 1000) as text,
       askonce.marked(left(c.text, 1000), $3) as marked
from askonce.completions c
where c.key = any($2::bytea[]) and c.scope = $1
