-- Read records with all that this node knows of them; after replicas.lua.
-- KEYS the records; ARGV[3] and on the slot of each.
-- Outcome: for each key its record or '', the largest stamp that any node is noted to have missed and when its record ends
-- (8 bytes) or '', and the tags of the nodes of which only the slot is noted. O(N × number of nodes that are behind).
local behind = {}
for at = 67, #fence, 4 do
  local tag = string.sub(fence, at, at + 3)
  behind[#behind + 1] = { tag, string.format('%02x%02x%02x%02x', string.byte(tag, 1, 4)) }
end
local found = {}
for index, key in ipairs(KEYS) do
  local largest, tags = '', ''
  for _, each in ipairs(behind) do
    local noted = redis.call('HGET', 'dc:missed:' .. each[2], key)
    if noted and (largest == '' or newer(string.sub(noted, 1, 14), string.sub(largest, 1, 14))) then
      largest = string.sub(noted, 1, 14) .. string.sub(noted, 23, 30)
    end
    if redis.call('HEXISTS', 'dc:slots:' .. each[2], ARGV[2 + index]) == 1 then
      tags = tags .. each[1]
    end
  end
  found[#found + 1] = read(key, -1) or ''
  found[#found + 1] = largest
  found[#found + 1] = tags
end
return result(found)
