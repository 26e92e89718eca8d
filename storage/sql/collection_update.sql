-- A tenant's collection is called otherwise, is said other things of, or lasts otherwise. What is null stays; $6 says whether
-- how long it lasts is said at all.
update askonce.collections
set name = coalesce($3, name),
    metadata = coalesce($4::text::jsonb, metadata),
    expires_after_s = case when $6 then $5 else expires_after_s end,
    used_at = clock_timestamp()
where id = $1 and tenant = $2
returning id
