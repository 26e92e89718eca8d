-- title: The parts of documents that are searched, and where they stand
create or replace view api.chunks with (security_invoker = true) as
select document_id, tenant, ordinal, start_pos, end_pos, encode(key, 'hex') as key, text, tsv
from askonce.passages;

comment on column api.chunks.document_id is 'Of which document.';
comment on column api.chunks.tenant is 'Whose it is.';
comment on column api.chunks.ordinal is 'Which part of the document, from 0.';
comment on column api.chunks.start_pos is 'Where it begins, in characters from the beginning of the text.';
comment on column api.chunks.end_pos is 'Where it ends: the first character after it.';
comment on column api.chunks.key is 'Follows from the document and the place: answers that were given with this part have it in their key.';
comment on column api.chunks.text is 'What the document says there.';
comment on column api.chunks.tsv is 'Its words in English and as they are, for @@; one more tells whose it is.';
