-- Give up a lease unless somebody listens elsewhere: how many do. In one step with the question, so that whoever comes
-- next either is counted here or finds no lease.
-- KEYS: lease, listeners. ARGV: the lease.
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now[1] * 1000 + math.floor(now[2] / 1000))
local listening = redis.call('ZCARD', KEYS[2])
if listening == 0 and redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return listening
