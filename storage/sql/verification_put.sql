-- Keep what came of a verification, unless its answer was invalidated meanwhile.
insert into askonce.verifications
  (key, scope, origin_id, model, prompt_hash, tags, outcome, compared, divergence, identity, duration_ms, made_by, at)
select $1::bytea, $2::text, $3::text, $4::text, $5::bytea, $6::text[], $7::text, $8::text, $9::text::jsonb,
       $10::text::jsonb, $11::float8, $12::text, to_timestamp($13::float8)
where not exists (
  select from askonce.invalidations i
  where i.scope = $2 and i.id > $14::bigint and askonce.speaks_of(i.kind, i.value, $1, $5, $4, $6)
)
