-- What waits to be embedded, the oldest of each place first, with what is to be embedded of it. Whose scope is null is
-- gone, or has its vector of this model already.
-- Of a prompt of megabytes only its end is looked at: it is longer than any model of this kind reads.
-- Each place has its turn with each kind: it is found by the index, from one to the next.
with recursive turns as (
  (select w.kind, w.scope from askonce.embedding_queue w order by w.kind, w.scope limit 1)
  union all
  select next.kind, next.scope
  from turns t left join lateral (
    select w.kind, w.scope from askonce.embedding_queue w
    where (w.kind, w.scope) > (t.kind, t.scope) order by w.kind, w.scope limit 1
  ) as next on true
  where t.kind is not null
)
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
  select turn.* from turns, lateral (
    select * from askonce.embedding_queue w
    where w.kind = turns.kind and w.scope = turns.scope and w.not_before <= clock_timestamp()
    order by w.id limit greatest(1, $1 / (select count(*) from turns where kind is not null))
  ) as turn
  where turns.kind is not null
  order by turn.kind = 'prompt' desc, turn.id limit $1
) as q
left join askonce.completions c on c.key = q.completion
left join askonce.passages p on p.id = q.passage
left join askonce.extractions x
  on x.run_id = q.run_id and x.chunk = q.chunk and x.pass = q.pass and x.attempt = q.attempt and x.ord = q.ord and x.kept
left join askonce.extraction_runs r on r.id = x.run_id
order by q.kind = 'prompt' desc, q.id
