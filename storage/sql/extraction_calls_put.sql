-- Calls of a run. Each parameter but the first is a column.
-- Arrays in columns are text: unnest would take their elements for rows.
insert into askonce.chunk_calls
  (run_id, chunk, pass, attempt, status, chosen, problems, key, prompt_hash, model, model_version, engine,
   engine_version, backend, finish_reason, cache, tier, origin_id, prompt_tokens, completion_tokens, answered_at,
   served_at, duration_ms, error, parameters)
select $1, said.chunk, said.pass, said.attempt, said.status, said.chosen, said.problems::text[], said.key,
       said.prompt_hash, said.model, said.model_version, said.engine, said.engine_version, said.backend,
       said.finish_reason, said.cache, said.tier, said.origin_id, said.prompt_tokens, said.completion_tokens,
       to_timestamp(said.answered_at), to_timestamp(said.served_at), said.duration_ms, said.error::jsonb,
       said.parameters::jsonb
from unnest(
  $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::boolean[], $7::text[], $8::bytea[], $9::bytea[],
  $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
  $19::integer[], $20::integer[], $21::float8[], $22::float8[], $23::float8[], $24::text[],
  $25::text[]
) as said (
  chunk, pass, attempt, status, chosen, problems, key, prompt_hash, model, model_version, engine, engine_version,
  backend, finish_reason, cache, tier, origin_id, prompt_tokens, completion_tokens, answered_at, served_at, duration_ms,
  error, parameters
)
order by said.chunk, said.pass, said.attempt  -- so are serials
