-- Whether a key was ever made, whatever became of it.
select exists (select from askonce.api_keys)
