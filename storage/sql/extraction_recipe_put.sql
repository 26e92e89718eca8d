-- A recipe, as it is used for the first time.
insert into askonce.recipes (tenant, name, edition, recipe) values ($1, $2, $3, $4::text::json) on conflict do nothing
