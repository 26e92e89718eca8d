-- title: What semantic reuse would have given, beside what the model answered
create or replace view api.semantic_trials with (security_invoker = true) as
select id, tenant, scope, model, encode(key, 'hex') as key, encode(source_key, 'hex') as source_key, similarity, reasons,
       judged_same, threshold, served, same_answer, answers_similarity, label, asked_at, source_at, created_at
from askonce.semantic_trials;

comment on column api.semantic_trials.id is 'Its number, for a label.';
comment on column api.semantic_trials.tenant is 'Who asked.';
comment on column api.semantic_trials.scope is 'Where both are kept.';
comment on column api.semantic_trials.model is 'Which model.';
comment on column api.semantic_trials.key is 'The question that the model answered, as in completions.';
comment on column api.semantic_trials.source_key is 'Whose answer would have been given; null where nothing near was kept.';
comment on column api.semantic_trials.similarity is 'Cosine of the vectors of the two questions.';
comment on column api.semantic_trials.reasons is 'What the guard has against it.';
comment on column api.semantic_trials.judged_same is 'Whether the judging model said yes; null where it was not asked.';
comment on column api.semantic_trials.threshold is 'What the similarity had to be then.';
comment on column api.semantic_trials.served is 'Whether it would have been given.';
comment on column api.semantic_trials.same_answer is 'Whether the two answers are equal.';
comment on column api.semantic_trials.answers_similarity is 'Cosine of the vectors of the two answers.';
comment on column api.semantic_trials.label is 'What a person says of the two questions: same or different.';
comment on column api.semantic_trials.asked_at is 'When the model was asked.';
comment on column api.semantic_trials.source_at is 'When it was asked for the other answer.';
comment on column api.semantic_trials.created_at is 'When this was written.';
