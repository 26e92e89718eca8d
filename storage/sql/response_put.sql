-- Keep responses, unless their answers were deleted while they were given: a newer answer alone takes nothing back.
insert into askonce.responses
  (id, tenant, scope, previous_id, model, key, prompt_hash, tags, request, steps, provenance, made_by, created_at,
   completed_at, epoch)
select said.id, said.tenant, said.scope, said.previous_id, said.model, said.key, said.prompt_hash, said.tags::text[],
       said.request, said.steps, said.provenance, said.made_by, to_timestamp(said.created_at),
       to_timestamp(said.completed_at), said.epoch
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::text[], $9::text[],
            $10::bytea[], $11::text[], $12::text[], $13::float8[], $14::float8[], $15::bigint[])
  as said (id, tenant, scope, previous_id, model, key, prompt_hash, tags, request, steps, provenance, made_by, created_at,
           completed_at, epoch)
where said.epoch >= (select coalesce(max(id), 0) from askonce.invalidations) or not exists (
  select from askonce.invalidations i
  where i.scope = said.scope and i.id > said.epoch and not i.superseding
    and askonce.speaks_of(i.kind, i.value, said.key, said.prompt_hash, said.model, said.tags::text[])
)
on conflict (id) do nothing
