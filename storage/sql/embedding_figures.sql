-- What a place's vectors of a model are of, and how much there is that could have one.
select
  (select count(*) from askonce.embeddings e where e.model_id = $1 and e.scope = $2 and e.kind = 'prompt') as prompts,
  (select count(*) from askonce.embeddings e where e.model_id = $1 and e.scope = $2 and e.kind = 'chunk') as chunks,
  (select count(*) from askonce.embeddings e where e.model_id = $1 and e.scope = $2 and e.kind = 'record') as records,
  (select count(*) from askonce.completions c where c.scope = $2 and c.kind in ('chat', 'completion')) as all_prompts,
  (select count(*) from askonce.passages p where p.tenant = $2) as all_chunks,
  (select count(*) from askonce.extractions x join askonce.extraction_runs r on r.id = x.run_id
    where r.tenant = $2 and x.kept) as all_records
