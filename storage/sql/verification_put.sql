-- Keep what came of a verification, unless its answer was invalidated meanwhile.
select askonce.verified(
  row(0, $1::bytea, $2::text, $3::text, $4::text, $5::bytea, $6::text[], $7::text, $8::text, $9::text::jsonb,
      $10::text::jsonb, $11::float8, $12::text, to_timestamp($13::float8))::askonce.verifications,
  $14::bigint
) as kept
