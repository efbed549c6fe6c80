-- Take back what was noted for a node that has it by now, and has not been noted again since.
-- ARGV[3] the node's tag, ARGV[4] the number of keys; then for each a key, and its note as it was listed; then slots, each
-- with its serial as it was listed.
-- Outcome: the number of keys still noted, -1 where only slots are. Without either the fence no longer calls the node
-- behind. O(N).
local tag = ARGV[3]
local name = string.format('%02x%02x%02x%02x', string.byte(tag, 1, 4))
local missed, slots = 'dc:missed:' .. name, 'dc:slots:' .. name
local rest = 5 + 2 * tonumber(ARGV[4])
for at = 5, #ARGV, 2 do
  local hash = at < rest and missed or slots
  if redis.call('HGET', hash, ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', hash, ARGV[at])
  end
end
local count = redis.call('HLEN', missed)
if redis.call('EXISTS', slots) == 1 then
  return result(count > 0 and count or -1)
end
if count == 0 then
  local kept = { string.sub(fence, 1, 66) }
  for at = 67, #fence, 4 do
    local other = string.sub(fence, at, at + 3)
    if other ~= tag then
      kept[#kept + 1] = other
    end
  end
  local cleared = table.concat(kept)
  if cleared ~= fence then
    fence = cleared
    redis.call('SET', 'dc:node', fence)
  end
end
return result(count)
