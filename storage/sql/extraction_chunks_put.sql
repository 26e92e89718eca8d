-- The parts of a document; those that are known are the same.
insert into askonce.chunks (document_id, chunker, ordinal, start_pos, end_pos, sha256)
select $1, $2, part.ordinal, part.start_pos, part.end_pos, part.sha256
from unnest($3::integer[], $4::integer[], $5::integer[], $6::bytea[]) as part (ordinal, start_pos, end_pos, sha256)
on conflict do nothing
