-- The verifications of one answer, newest first.
select outcome, compared, divergence::text, identity::text, duration_ms, made_by, extract(epoch from at)::float8 as at
from askonce.verifications
where key = $1 and origin_id = $2 and scope = $3
order by at desc, id desc
limit $4
