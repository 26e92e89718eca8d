-- A recipe, as a tenant's run used it.
select recipe from askonce.recipes where tenant = $1 and name = $2 and edition = $3
