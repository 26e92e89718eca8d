-- The model that embeds what is new.
select id, model, model_version, dimensions, prompts_after, chunks_after, records_after
from askonce.embedding_models where is_current
