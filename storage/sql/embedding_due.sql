-- What waits to be embedded, the oldest first, with what is to be embedded of it. Whose scope is null is gone, or has its
-- vector of this model already.
-- Of a prompt of megabytes only its end is looked at: it is longer than any model of this kind reads.
select q.id, q.kind, q.tries,
       case when not exists (
         select from askonce.embeddings e where e.model_id = $2 and e.completion = q.completion
         union all
         select from askonce.embeddings e where e.model_id = $2 and e.passage = q.passage
         union all
         select from askonce.embeddings e
         where e.model_id = $2 and e.run_id = q.run_id and e.chunk = q.chunk and e.pass = q.pass
           and e.attempt = q.attempt and e.ord = q.ord
       ) then coalesce(c.scope, p.tenant, r.tenant) end as scope,
       c.kind as completion_kind, c.model, c.model_version, c.engine, c.engine_version, c.params,
       case when octet_length(c.prompt) <= 1000000 then c.prompt end as prompt,
       case when octet_length(c.prompt) > 1000000 then right(c.prompt_text, 20000) end as ending,
       p.text as passage,
       left(x.class, 200) as class, left(x.text, 20000) as text, x.attributes
from (
  select * from askonce.embedding_queue where not_before <= clock_timestamp() order by id limit $1
) as q
left join askonce.completions c on c.key = q.completion
left join askonce.passages p on p.id = q.passage
left join askonce.extractions x
  on x.run_id = q.run_id and x.chunk = q.chunk and x.pass = q.pass and x.attempt = q.attempt and x.ord = q.ord and x.kept
left join askonce.extraction_runs r on r.id = x.run_id
order by q.id
