-- A tenant's documents are in a collection, with what is said of them there. Those that are not there are left out.
with added as (
  insert into askonce.collection_documents as c (collection_id, document_id, attributes, batch)
  select $1, d.id, w.attributes::jsonb, $5
  from unnest($3::text[], $4::text[]) as w (id, attributes)
  join askonce.documents d on d.id = w.id and d.tenant = $2
  on conflict (collection_id, document_id) do update
    set attributes = case when excluded.attributes = '{}' then c.attributes else excluded.attributes end,
        batch = coalesce(excluded.batch, c.batch)
  returning c.document_id
), used as (
  update askonce.collections set used_at = clock_timestamp() where id = $1
)
select document_id from added
