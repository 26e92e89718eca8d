-- Documents may be made of files: what kind, what they call themselves, and where their pages begin.
alter table askonce.documents
  add column media_type text not null default 'text/plain',
  add column title text not null default '',
  add column pages integer[] not null default '{}';
comment on column askonce.documents.media_type is 'Of the file that the text was read from; that of a PDF has pages.';
comment on column askonce.documents.pages is 'Where each page begins, in characters from the beginning.';
