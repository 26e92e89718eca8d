-- title: Verifications, newest first
create or replace view api.verifications with (security_invoker = true) as
select encode(key, 'hex') as key, scope, model, outcome, compared, divergence, identity, duration_ms,
       origin_id, made_by, at
from askonce.verifications
order by at desc
