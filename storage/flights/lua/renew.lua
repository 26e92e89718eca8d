-- Keep a lease, also one that ran out while nobody else wanted it: 1 when it is kept, 0 when another leads.
-- KEYS: lease, steps. ARGV: the lease, milliseconds it lasts, milliseconds the stream lasts.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
