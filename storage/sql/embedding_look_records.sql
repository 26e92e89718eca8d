-- As for prompts, but run by run: at least one, and so many that they have about $2 records.
with runs as (
  select r.id, sum(1 + coalesce((r.counts ->> 'records')::bigint, 100)) over (order by r.id) as records
  from askonce.extraction_runs r
  where r.id > (select m.records_after from askonce.embedding_models m where m.id = $1)
  order by r.id limit 100
), seen as (
  select id from runs where records <= $2 union select min(id) from runs
), queued as (
  insert into askonce.embedding_queue (kind, scope, run_id, chunk, pass, attempt, ord)
  select 'record', r.tenant, x.run_id, x.chunk, x.pass, x.attempt, x.ord
  from seen s join askonce.extraction_runs r on r.id = s.id join askonce.extractions x on x.run_id = s.id and x.kept
  where not exists (
    select from askonce.embeddings e
    where e.run_id = x.run_id and e.chunk = x.chunk and e.pass = x.pass and e.attempt = x.attempt and e.ord = x.ord
      and e.model_id = $1
  )
)
update askonce.embedding_models set records_after = (select max(id) from seen) where id = $1
