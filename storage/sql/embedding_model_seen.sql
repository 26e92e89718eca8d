-- A model is used.
update askonce.embedding_models set seen_at = clock_timestamp() where id = $1
