-- What the view of messages is made with, and rows of hits that belong to tenants as their answers do.

-- JSON that was kept as text. NUL is escaped there, and jsonb cannot hold it: it becomes U+2400.
create function askonce.json_of(value text) returns jsonb language sql immutable strict parallel safe as $$
  select case when strpos(value, '\u0000') = 0 then value::jsonb
              else regexp_replace(value, '(?<!\\)((?:\\\\)*)\\u0000', '\1' || chr(9216), 'g')::jsonb end
$$;

-- A list, for what may be none.
create function askonce.list_of(value jsonb) returns jsonb language sql immutable parallel safe as $$
  select case jsonb_typeof(value) when 'array' then value else '[]' end
$$;

-- The words of a message's content: a text, or parts of which some are texts. The body is read now, not when it is used:
-- who asks may not look into this schema.
create function askonce.words_of(content jsonb) returns text language sql immutable strict parallel safe
return case jsonb_typeof(content)
         when 'string' then content #>> '{}'
         when 'array' then (
           select string_agg(askonce.text_of(part -> 'text'), E'\n' order by place)
           from jsonb_array_elements(content) with ordinality as parts (part, place)
         )
       end;

alter table askonce.hits enable row level security;
create policy everybody on askonce.hits using (true) with check (true);
