-- So many of a hundred pages: how many answers are there, and what they take of the disk beside their keys and names.
select count(*) as rows,
       coalesce(sum(pg_column_size(prompt) + pg_column_size(params) + pg_column_size(prompt_text) + pg_column_size(text)
                    + coalesce(pg_column_size(message), 0) + coalesce(pg_column_size(token_ids), 0)
                    + pg_column_size(step_lengths) + pg_column_size(steps) + pg_column_size(embedding)
                    + pg_column_size(tags)), 0)::bigint as bytes
from askonce.completions tablesample system ($1)
