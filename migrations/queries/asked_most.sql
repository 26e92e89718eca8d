-- title: Answers that were given again most often
select h.hits, h.last_at, c.model, left(c.prompt_text, 200) as prompt, left(c.text, 200) as answer, h.key
from api.hits h
join api.completions c using (key)
order by h.hits desc, h.last_at desc
limit 100
