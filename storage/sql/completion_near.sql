-- Kept answers to what may be nearly the same question: the latest to the same prompt, and the latest of all.
(select key, scope, kind, model, model_version, engine, engine_version, prompt_hash, prompt, params, prompt_text,
        extract(epoch from created_at)::float8 as created_at
 from askonce.completions
 where prompt_hash = $1 and scope = $2 and kind = $3 and key <> $4 and octet_length(prompt) <= $5
 order by created_at desc limit $6)
union
(select key, scope, kind, model, model_version, engine, engine_version, prompt_hash, prompt, params, prompt_text,
        extract(epoch from created_at)::float8 as created_at
 from askonce.completions
 where scope = $2 and kind = $3 and key <> $4 and octet_length(prompt) <= $5
 order by created_at desc limit $6)
