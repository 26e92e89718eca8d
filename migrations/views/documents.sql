-- title: Documents
create or replace view api.documents with (security_invoker = true) as
select id, tenant, encode(sha256, 'hex') as sha256, characters, text, meta, created_at, media_type,
       title, pages
from askonce.documents;

comment on column api.documents.id is 'What extractions call it.';
comment on column api.documents.tenant is 'Whose it is.';
comment on column api.documents.sha256 is 'Of its text.';
comment on column api.documents.characters is 'How long the text is, in code points.';
comment on column api.documents.text is 'The text; NUL, which Postgres cannot hold, is written as U+2400.';
comment on column api.documents.meta is 'What the client said about it.';
comment on column api.documents.created_at is 'When it came.';
comment on column api.documents.media_type is 'Of the file that the text was read from; that of a PDF has pages.';
comment on column api.documents.title is 'What the file says that it is called.';
comment on column api.documents.pages is 'Where each page begins, in characters from the beginning.';
