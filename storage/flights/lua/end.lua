-- End a stream with its last batch. The lease, if it is still the same, becomes another for as long, or nothing: also
-- when the batch cannot be written, for then nobody can follow.
-- KEYS: lease, steps. ARGV: the lease, what it becomes or nothing, the batch's place, the batch, milliseconds both last.
local written = redis.pcall('XADD', KEYS[2], ARGV[3] .. '-0', 'batch', ARGV[4])
local failed = type(written) == 'table' and written.err
if not failed then
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  if failed or ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
  end
end
return written
