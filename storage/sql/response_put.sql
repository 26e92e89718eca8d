-- Keep a response, unless its answer was deleted meanwhile.
select askonce.respond(
  row($1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::bytea, $8::text[], $9::text, $10::bytea,
      $11::text, $12::text, to_timestamp($13::float8), to_timestamp($14::float8), null)::askonce.responses,
  $15::bigint
)
