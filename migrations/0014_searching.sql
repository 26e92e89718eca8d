-- What searches in full text are made of. All are immutable, so that they are worked out before a plan is chosen.

create function askonce.owner_word(tenant text) returns tsquery language sql immutable strict parallel safe as $$
  select ('''' || replace(replace(e'\x01' || tenant, '\', '\\'), '''', '''''') || '''')::tsquery
$$;
comment on function askonce.owner_word(text) is 'The word that only a tenant''s own passages have: see passages.tsv.';

create function askonce.all_words(said text) returns tsquery language sql immutable strict parallel safe as $$
  select websearch_to_tsquery('english'::regconfig, said) || websearch_to_tsquery('simple'::regconfig, said)
$$;
comment on function askonce.all_words(text) is 'All of its words, stemmed or as they are; with "quotes", or and -not as in search engines.';

create function askonce.any_word(said text) returns tsquery language sql immutable strict parallel safe as $$
  select coalesce(string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | '), '')::tsquery
  from unnest(to_tsvector('english'::regconfig, said)) as w
$$;
comment on function askonce.any_word(text) is 'One of its words that mean something, stemmed.';

create function askonce.any_plain_word(said text) returns tsquery language sql immutable strict parallel safe as $$
  select coalesce(string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | '), '')::tsquery
  from unnest(to_tsvector('simple'::regconfig, said)) as w
  where to_tsvector('english'::regconfig, w.lexeme) <> ''::tsvector
$$;
comment on function askonce.any_plain_word(text) is 'One of its words that mean something, as it is: for what is not stemmed.';

-- The text with what a search found between U+0001 and U+0002, and else unchanged.
create function askonce.marked(said text, wanted text) returns text language sql immutable strict parallel safe as $$
  select ts_headline(
    case when numnode(askonce.any_word(wanted)) > 0 then 'english'::regconfig else 'simple'::regconfig end,
    translate(said, e'\x01\x02', '  '),
    case when numnode(askonce.any_word(wanted)) > 0
         then askonce.any_word(wanted) else websearch_to_tsquery('simple'::regconfig, wanted) end,
    e'StartSel=\x01, StopSel=\x02, HighlightAll=true'
  )
$$;

-- A tenant's documents, as far as they are in a collection, among these, and have these attributes; null is all of them.
create function askonce.wanted_documents(owner text, collection text, ids text[], filters text) returns setof text
language sql stable as $$
  select d.id
  from askonce.documents d
  left join askonce.collection_documents c on c.document_id = d.id and c.collection_id = collection
  where d.tenant = owner
    and (collection is null or c.collection_id is not null)
    and (ids is null or d.id = any(ids))
    and (filters is null
      or jsonb_path_match(d.meta || coalesce(c.attributes, '{}'), (select filters::jsonpath), '{}', true))
$$;
