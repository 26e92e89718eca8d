-- title: How often kept answers were given again
create or replace view api.hits with (security_invoker = true) as
select encode(key, 'hex') as key, hits, last_at
from askonce.hits;

comment on column api.hits.key is 'The answer, as in completions.';
comment on column api.hits.hits is 'How often it was given again, to all who share it.';
comment on column api.hits.last_at is 'When it was given last.';
