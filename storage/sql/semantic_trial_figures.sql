-- What all trials of a model have found ($1, or null for every model), oldest first.
select id, model, similarity, reasons, judged_same, threshold, served, same_answer, answers_similarity, label
from askonce.semantic_trials where $1::text is null or model = $1 order by id
