-- title: Answers that came out otherwise when they were asked for again
select v.at, v.model, left(c.prompt_text, 200) as prompt, v.divergence, v.key
from api.verifications v
left join api.completions c using (key)
where v.outcome = 'diverged'
order by v.at desc
