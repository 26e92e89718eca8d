-- Records of a run's calls. Each parameter but the first is a column.
insert into askonce.extractions
  (run_id, chunk, pass, attempt, ord, class, text, attributes, start_pos, end_pos, quote, alignment, group_index, fits,
   kept)
select $1, said.chunk, said.pass, said.attempt, said.ord, said.class, said.text, said.attributes::jsonb, said.start_pos,
       said.end_pos, said.quote, said.alignment, said.group_index, said.fits, said.kept
from unnest(
  $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::text[], $9::integer[],
  $10::integer[], $11::text[], $12::text[], $13::integer[], $14::boolean[], $15::boolean[]
) as said (
  chunk, pass, attempt, ord, class, text, attributes, start_pos, end_pos, quote, alignment, group_index, fits, kept
)
