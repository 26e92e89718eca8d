-- Documents that are searched: the passages they are divided into, and collections of documents.

create table askonce.passages (
  id          bigint generated always as identity primary key,
  document_id text not null references askonce.documents (id) on delete cascade,
  tenant      text not null,
  ordinal     integer not null check (ordinal >= 0),
  start_pos   integer not null check (start_pos >= 0),
  end_pos     integer not null check (end_pos >= start_pos),
  key         bytea not null check (octet_length(key) = 32),
  text        text not null,
  -- Whose it is stands among the words, so that an index on words alone finds a tenant's own: no word begins so.
  tsv         tsvector not null generated always as (
    array_to_tsvector(array[e'\x01' || tenant])
    || to_tsvector('english'::regconfig, left(text, 100000)) || to_tsvector('simple'::regconfig, left(text, 100000))
  ) stored,
  unique (document_id, ordinal)
);
comment on table askonce.passages is 'The parts of documents that are searched. Places are characters from the beginning, as substr counts, less one.';
comment on column askonce.passages.key is 'sha256 that follows from the document''s text and the place: a changed document has none of its old keys.';
comment on column askonce.passages.text is 'What the document says at this place.';

create index passages_tenant on askonce.passages (tenant);
create index passages_key on askonce.passages (key);
create index passages_tsv on askonce.passages using gin (tsv);

alter table askonce.documents add column passages text not null default '';
comment on column askonce.documents.passages is 'How it was divided into passages; empty while it has not been.';
create index documents_undivided on askonce.documents (created_at) where passages = '';

create table askonce.collections (
  id         text primary key,
  tenant     text not null,
  name       text not null,
  metadata   jsonb not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  used_at    timestamptz not null default clock_timestamp(),
  expires_after_s bigint
);
comment on table askonce.collections is 'Documents that are searched together: what OpenAI''s API calls vector stores.';
create index collections_tenant on askonce.collections (tenant, created_at desc);

create table askonce.collection_documents (
  collection_id text not null references askonce.collections (id) on delete cascade,
  document_id   text not null references askonce.documents (id) on delete cascade,
  attributes    jsonb not null default '{}',
  added_at      timestamptz not null default clock_timestamp(),
  primary key (collection_id, document_id)
);
create index collection_documents_document_id on askonce.collection_documents (document_id);

do $$
declare
  name text;
begin
  foreach name in array array['passages', 'collections', 'collection_documents'] loop
    execute format('alter table askonce.%I enable row level security', name);
    execute format('create policy everybody on askonce.%I using (true) with check (true)', name);
  end loop;
end
$$;
