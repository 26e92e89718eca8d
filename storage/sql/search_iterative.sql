-- Goes on asking an index of vectors until there are as many as are wanted: it knows no tenants, and finds those of all.
select set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '400', true)
