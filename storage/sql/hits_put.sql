-- Add how often answers were given to what is known of them: other gateways give them too.
insert into askonce.hits as known (key, hits, last_at)
select key, hits, to_timestamp(last_at) from unnest($1::bytea[], $2::bigint[], $3::float8[]) as said (key, hits, last_at)
on conflict (key) do update set
  (hits, last_at) = (known.hits + excluded.hits, greatest(known.last_at, excluded.last_at))
