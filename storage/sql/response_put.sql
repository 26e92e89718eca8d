-- Keep a response, unless its answer was deleted while it was given: a newer answer alone takes nothing back.
insert into askonce.responses
  (id, tenant, scope, previous_id, model, key, prompt_hash, tags, request, steps, provenance, made_by, created_at,
   completed_at, epoch)
select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, to_timestamp($13), to_timestamp($14), $15
where not exists (
  select from askonce.invalidations i
  where i.scope = $3 and i.id > $15 and not i.superseding and askonce.speaks_of(i.kind, i.value, $6, $7, $5, $8)
)
on conflict (id) do nothing
