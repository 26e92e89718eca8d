-- What a search is not to find.
create function askonce.any_of(said text[]) returns tsquery language sql immutable strict parallel safe as $$
  select coalesce(string_agg(found.words::text, ' | '), '')::tsquery
  from (
    select phraseto_tsquery('english'::regconfig, one) || phraseto_tsquery('simple'::regconfig, one) as words
    from unnest(said) as one
  ) as found
  where numnode(found.words) > 0
$$;
comment on function askonce.any_of(text[]) is 'One of these words or phrases, stemmed or as they are.';
