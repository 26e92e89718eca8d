-- title: The parts of documents that are searched, and where they stand
create or replace view api.chunks with (security_invoker = true) as
select document_id, tenant, ordinal, start_pos, end_pos, encode(key, 'hex') as key, text, tsv
from askonce.passages
