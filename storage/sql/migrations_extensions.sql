-- The extensions that are here, and those that this role may make: pgvector from the version on that has halfvec.
select distinct v.name::text
from pg_available_extension_versions v
where v.name = 'vector' and string_to_array(v.version, '.')::integer[] >= array[0, 7]
  and (
    v.installed
    or not exists (select from pg_extension e where e.extname = v.name) and (
      (select r.rolsuper from pg_roles r where r.rolname = current_user)
      or v.trusted and has_database_privilege(current_database(), 'create')
    )
  )
