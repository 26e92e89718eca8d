-- Kept answers to what may be nearly the same question, the most likely first: the latest to the same prompt, to prompts
-- that begin alike, with the same parameters, and of all. Each way looks at so many rows at most, and all that is read
-- is no larger than so many bytes. Prompts are read last, when it is known which ones.
-- $1 key, $2 scope, $3 kind, $4 models, $5 oldest, $6 prompt hash, $7 params, $8 beginning,
-- $9 bytes of one, $10 bytes of all, $11 how many each way, $12 rows each way.
with latest as materialized (
  select key, kind, model, created_at from askonce.completions
  where scope = $2 order by created_at desc limit $12
), ways as (
  select 1 as way, key, kind, model, created_at from (
    select key, kind, model, created_at from askonce.completions
    where prompt_hash = $6 and scope = $2 order by created_at desc limit $12
  ) same_prompt
  union all
  select 2, key, kind, model, created_at from (
    select key, kind, model, created_at from askonce.completions
    where scope = $2 and hashtextextended(left(prompt_text, 64), 0) = hashtextextended($8, 0)
    order by created_at desc limit $12
  ) same_beginning
  union all
  select 3, key, kind, model, created_at from (
    select key, kind, model, created_at from askonce.completions
    where scope = $2 and hashtextextended(params, 0) = hashtextextended($7, 0)
    order by created_at desc limit $12
  ) same_params
  union all
  select 4, key, kind, model, created_at from latest
), ranked as (
  select way, key, row_number() over (partition by way order by created_at desc, key) as place from ways
  where kind = $3 and key <> $1 and ($4::text[] is null or model = any($4)) and created_at >= to_timestamp($5::float8)
), picked as (
  select key, min(place) as place from ranked where place <= $11 group by key
), sized as (
  select c.key, p.place, sum(octet_length(c.prompt) + octet_length(c.params)) over (order by p.place, c.key) as bytes
  from picked p join askonce.completions c on c.key = p.key
  where octet_length(c.prompt) + octet_length(c.params) <= $9
), chosen as (
  select key, place from sized where bytes <= $10
)
select n.seen, n.fit, c.key, c.scope, c.kind, c.model, c.model_version, c.engine, c.engine_version, c.prompt_hash,
       c.prompt, c.params, '' as prompt_text, extract(epoch from c.created_at)::float8 as created_at
from (select (select count(*) from latest) as seen, (select count(*) from ranked where way = 4) as fit) n
left join (chosen join askonce.completions c on c.key = chosen.key) on true
order by chosen.place, c.key
