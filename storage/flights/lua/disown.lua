-- Take back a claim whose outcome came too late to be of use.
-- KEYS: lease, listeners. ARGV: the asker's token, the asker's lease.
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[1]) == ARGV[2] then
  redis.call('DEL', KEYS[1])
end
