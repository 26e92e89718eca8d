-- What there is of a view's name in the schema api: what sort of thing, and its comment.
select c.relkind::text as kind, coalesce(obj_description(c.oid, 'pg_class'), '') as comment
from pg_class c
where c.relnamespace = 'api'::regnamespace and c.relname = $1
