-- Keep an answer, unless another is kept under its key that it does not outrank (`Encoded.outranks` in storage/entry.py).
-- KEYS: its key. ARGV: its head and itself, seconds to live, 1 if it replaces what is too old, heads that give way to it.
local kept = redis.call('GETRANGE', KEYS[1], 0, 15)
if #kept == 16 then
  local epoch, created_at = struct.unpack('>i8d', ARGV[1])
  local kept_epoch, kept_at = struct.unpack('>i8d', kept)
  local wins = epoch > kept_epoch or (ARGV[3] == '1' and epoch == kept_epoch and created_at > kept_at)
  for place = 4, #ARGV do
    wins = wins or ARGV[place] == kept
  end
  if not wins then
    return false
  end
end
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if done.err then
  -- Redis before 7 says in front of it where in this file it was.
  return redis.error_reply(string.match(done.err, '^@user_script: ?%d+: %-?(.*)$') or done.err)
end
return done
