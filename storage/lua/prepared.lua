-- Replies that are prepared, each with the entry that it was made of. KEYS: theirs. ARGV: what the names of entries begin
-- with. A reply begins with its entry's key and head; one whose entry is gone, or another by now, is none.
local found = {}
for place = 1, #KEYS do
  local reply = redis.call('GET', KEYS[place])
  local entry = reply and redis.call('GET', ARGV[1] .. string.sub(reply, 1, 32))
  local whole = entry and string.sub(entry, 1, 16) == string.sub(reply, 33, 48)
  found[2 * place - 1] = whole and reply or false
  found[2 * place] = whole and entry or false
end
return found
