-- Whose answers, of which models, there are.
select distinct scope, model from askonce.completions
