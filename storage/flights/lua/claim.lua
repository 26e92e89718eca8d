-- Who leads a flight: whoever has its lease; when nobody has, the asker from now on.
-- Somebody who only asks gives no lease of its own. Who does not lead is known to listen for as long as a lease lasts.
-- KEYS: lease, listeners. ARGV: the asker's token, milliseconds a lease lasts, the asker's lease or nothing, and a lease
-- that is as good as none to the asker, if it has seen one.
local held = redis.call('GET', KEYS[1])
if held == ARGV[4] then
  held = false
end
if not held and ARGV[3] ~= '' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
  return ARGV[3]
end
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return held
