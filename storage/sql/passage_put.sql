-- The passages of a document.
insert into askonce.passages (document_id, tenant, ordinal, start_pos, end_pos, key, text)
select $1, $2, p.ordinal, p.start_pos, p.end_pos, p.key, p.text
from unnest($3::integer[], $4::integer[], $5::integer[], $6::bytea[], $7::text[])
  as p (ordinal, start_pos, end_pos, key, text)
