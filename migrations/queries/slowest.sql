-- title: Answers that took longest to make
select key, model, duration_ms, first_step_ms, completion_tokens, left(prompt_text, 200) as prompt, created_at
from api.completions
where kind <> 'embedding'
order by duration_ms desc
limit 100
