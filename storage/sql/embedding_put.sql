-- Keep vectors of what waits, as far as it is still there, and have these wait no longer. $2, $3, … are columns.
with said as (
  select * from unnest($2::bigint[], $3::text[], $4::bytea[], $5::boolean[], $6::text[])
    as said (id, scope, context, whole, embedding)
), done as (
  delete from askonce.embedding_queue q using said where q.id = said.id returning q.*
)
insert into askonce.embeddings
  (model_id, kind, scope, completion, passage, run_id, chunk, pass, attempt, ord, context, whole, embedding)
select $1, d.kind, said.scope, d.completion, d.passage, d.run_id, d.chunk, d.pass, d.attempt, d.ord, said.context,
       said.whole, said.embedding::halfvec
from done d
join said on said.id = d.id
where case d.kind
        when 'prompt' then exists (select from askonce.completions c where c.key = d.completion)
        when 'chunk' then exists (select from askonce.passages p where p.id = d.passage)
        else exists (
          select from askonce.extractions x
          where x.run_id = d.run_id and x.chunk = d.chunk and x.pass = d.pass and x.attempt = d.attempt and x.ord = d.ord
        )
      end
on conflict do nothing
