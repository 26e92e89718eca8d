-- title: The last answers of a model ($1)
select created_at, left(prompt_text, 200) as prompt, left(text, 200) as answer, finish_reason, completion_tokens, key
from api.completions
where model = $1 and kind <> 'embedding'
order by created_at desc
limit 100
