-- Trials that are old, and were judged by nobody.
delete from askonce.semantic_trials where created_at < clock_timestamp() - interval '90 days' and label is null
