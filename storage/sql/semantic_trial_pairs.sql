-- Pairs of questions of trials, the nearest first, with the prompts as far as they are still kept: $1 model or null,
-- $2 only those that nobody has judged, $3 how many.
select t.id, t.model, t.similarity, t.reasons, t.judged_same, t.served, t.same_answer, t.answers_similarity, t.label,
       asked.prompt as asked_prompt, source.prompt as source_prompt
from askonce.semantic_trials t
left join askonce.completions asked on asked.key = t.key
left join askonce.completions source on source.key = t.source_key
where t.source_key is not null and ($1::text is null or t.model = $1) and (t.label is null or not $2)
order by t.served desc, t.similarity desc, t.id
limit $3
