-- Searches of one tenant cost no more for what others keep.

-- An index of words has one list of places for each word, of all tenants together: a word that everybody uses is long to
-- read, whoever asks. In this one each word stands with whose it is.
create function askonce.owned(tenant text, words tsvector) returns tsvector language sql immutable strict parallel safe as $$
  select array_to_tsvector(array(
    select left(md5(tenant), 8) || word from unnest(tsvector_to_array(words)) as word where length(word) <= 500
  ))
$$;
comment on function askonce.owned(text, tsvector) is
  'Its words, each with whose they are, without their places. The longest are left out: nothing is longer than 2,046 bytes.';

create function askonce.owned_query(tenant text, wanted tsquery) returns tsquery language sql immutable strict parallel safe as $$
  select case when querytree(wanted) in ('', 'T')
  then ('''' || left(md5(tenant), 8) || substr(askonce.owner_word(tenant)::text, 2))::tsquery
  else (
    select string_agg(
      case when left(part, 1) = '''' then case
             when length(part) > 400 then '''' || left(md5(tenant), 8) || substr(askonce.owner_word(tenant)::text, 2)
             else '''' || left(md5(tenant), 8) || substr(part, 2) end
           when left(part, 1) = '<' then '&'
           else part end,
      '' order by place
    )::tsquery
    from regexp_matches(querytree(wanted), $r$'(?:[^'\\]|''|\\.)*'|<[-0-9]+>|.$r$, 'g') with ordinality as found (parts, place),
      unnest(parts) as part
  ) end
$$;
comment on function askonce.owned_query(text, tsquery) is
  'What askonce.owned() of all that fits has, and perhaps more: words of a phrase anywhere, and nothing of what is not wanted.';

create index passages_owned on askonce.passages using gin (askonce.owned(tenant, tsv));
drop index askonce.passages_tsv;

-- A place's answers are counted without reading any.
create index completions_scope_created_at_kind on askonce.completions (scope, created_at) include (kind);
drop index askonce.completions_scope_created_at;
alter index askonce.completions_scope_created_at_kind rename to completions_scope_created_at;

-- A place's vectors beside each other: comparing them all reads an index from one end to the other, and no rows from
-- everywhere. A model that comes later has its own from its beginning.
do $$
declare
  number integer;
begin
  if to_regclass('askonce.embedding_models') is not null then
    for number in select id from askonce.embedding_models where dimensions <= 1024 loop
      execute format(
        'create index embeddings_within_%s on askonce.embeddings (scope, kind, context)'
        ' include (completion, passage, whole, embedding) where model_id = %s', number, number);
    end loop;
  end if;
end
$$;
