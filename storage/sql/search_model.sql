-- The model that vectors are of.
select id, model, model_version, dimensions from askonce.embedding_models where is_current
