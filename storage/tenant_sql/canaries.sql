-- Two tenants, `self` and `other`, with a row in everything that tenants can read, and more for the other: in a namespace
-- that only it is in. The settings askonce.own and askonce.secret are the words that are in the rows of each.
do $$
declare
  mark constant text := current_setting('askonce.mark');
  side text;
  tenant text;
  word text;
  place text;
begin
  insert into askonce.namespaces (name) values ('selftest-' || mark);
  foreach side in array array['a', 'b'] loop
    tenant := 'selftest-' || mark || '-' || side;
    word := current_setting(case side when 'a' then 'askonce.own' else 'askonce.secret' end);
    insert into askonce.tenants (name) values (tenant);
    insert into askonce.api_keys (id, tenant, label, hash, scopes)
      values (mark || side, tenant, word, sha256(convert_to(word, 'utf8')), array['ask', word]);
    if side = 'b' then
      insert into askonce.namespace_members (namespace, tenant) values ('selftest-' || mark, tenant);
    end if;
    foreach place in array case side when 'a' then array[tenant] else array[tenant, 'shared/selftest-' || mark] end loop
      insert into askonce.completions (
        key, scope, kind, model, model_version, engine, engine_version, backend, prompt_hash, prompt, params, prompt_text,
        text, message, step_lengths, prompt_tokens, completion_tokens, duration_ms, origin_id, steps, embedding,
        created_at, made_by, tags
      ) values (
        sha256(convert_to(place, 'utf8')), place, 'chat', word, word, word, word, word, sha256(convert_to(word, 'utf8')),
        jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', word))), word, word,
        word, jsonb_build_array(jsonb_build_object('index', 0, 'content', word)), '{}', 1, 1, 1, word,
        convert_to(word, 'utf8'), '', now(), word, array[word]
      );
      insert into askonce.verifications (
        key, scope, origin_id, model, prompt_hash, tags, outcome, compared, divergence, identity, duration_ms, made_by, at
      ) values (
        sha256(convert_to(place, 'utf8')), place, word, word, sha256(''), '{}', 'identical', word, jsonb_build_object('x', word),
        jsonb_build_object('x', word), 1, word, now()
      );
      insert into askonce.hits (key, hits, last_at) values (sha256(convert_to(place, 'utf8')), 1, now());
    end loop;
    insert into askonce.usage values (now(), tenant, word, 'chat', 'hit', 1, 1, 1, 1);
    insert into askonce.invalidations (scope, kind, value) values (tenant, 'tag', word);
    insert into askonce.responses (
      id, tenant, scope, model, key, prompt_hash, tags, request, steps, provenance, made_by, created_at, completed_at, epoch
    ) values (
      word, tenant, tenant, word, sha256(''), sha256(''), array[word], word, convert_to(word, 'utf8'), 'generated', word,
      now(), now(), 0
    );
    insert into askonce.documents (id, tenant, sha256, text, characters, meta, created_at)
      values (word || 'd', tenant, sha256(convert_to(word, 'utf8')), word, 1, jsonb_build_object('x', word), now());
    insert into askonce.recipes (tenant, name, edition, recipe) values (tenant, word, word, to_json(word));
    insert into askonce.extraction_runs (
      id, tenant, scope, document_id, recipe, edition, model, options, langextract, chunker, passes, status, chunks,
      metadata, made_by, created_at
    ) values (
      word || 'r', tenant, tenant, word || 'd', word, word, word, '{"saved": true}', '', word, 1, 'completed', 1,
      jsonb_build_object('x', word), word, now()
    );
    insert into askonce.chunks values (word || 'd', word, 0, 0, 1, sha256(''));
    insert into askonce.chunk_calls (
      run_id, chunk, pass, attempt, status, chosen, problems, model, served_at, duration_ms, error
    ) values (word || 'r', 0, 0, 0, 'ok', true, array[word], word, now(), 1, jsonb_build_object('x', word));
    insert into askonce.extractions (
      run_id, chunk, pass, attempt, ord, class, text, attributes, quote, group_index, fits, kept
    ) values (word || 'r', 0, 0, 0, 0, word, word, jsonb_build_object('x', word), word, 0, true, true);
    perform askonce.admit(tenant);
  end loop;
end
$$;
