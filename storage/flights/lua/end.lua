-- End a stream with its last batch. The lease, if it is still the same, becomes another for as long, or nothing.
-- KEYS: lease, steps. ARGV: the lease, what it becomes or nothing, the batch's place, the batch, milliseconds both last.
redis.call('XADD', KEYS[2], ARGV[3] .. '-0', 'batch', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
end
