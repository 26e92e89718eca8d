-- Goes on asking an index of vectors until there are as many as are wanted: it knows no tenants, and finds those of all.
-- Without it all would be compared and sorted, which takes longer where there are many, and may look shorter to the planner.
select set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '400', true),
       set_config('enable_sort', 'off', true)
