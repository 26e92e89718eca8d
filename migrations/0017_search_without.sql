-- What a search is not to find. A phrase is stemmed only where all its words are: without 'a', "a cat" would be any cat.
create function askonce.any_of(said text[]) returns tsquery language sql immutable strict parallel safe as $$
  select coalesce(string_agg(found.words::text, ' | '), '')::tsquery
  from (
    select case when numnode(stemmed) = numnode(plain) then stemmed || plain else plain end as words
    from unnest(said) as one,
      phraseto_tsquery('english'::regconfig, one) as stemmed,
      phraseto_tsquery('simple'::regconfig, one) as plain
  ) as found
  where numnode(found.words) > 0
$$;
comment on function askonce.any_of(text[]) is 'One of these words or phrases, stemmed or as they are.';
