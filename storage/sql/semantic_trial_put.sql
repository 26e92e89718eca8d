-- Keep what semantic reuse would have given. Each of $1, $2, … is a column.
insert into askonce.semantic_trials
  (tenant, scope, model, key, source_key, similarity, reasons, judged_same, threshold, served, same_answer,
   answers_similarity, asked_at, source_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, to_timestamp($13::float8), to_timestamp($14::float8))
