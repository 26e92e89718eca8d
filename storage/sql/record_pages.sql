-- How many pages the answers' table has, with those that are empty.
select pg_relation_size('askonce.completions') / current_setting('block_size')::bigint as pages
