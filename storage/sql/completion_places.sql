-- Whose answers and responses, of which models, there are.
select scope, model from askonce.completions union select scope, model from askonce.responses
