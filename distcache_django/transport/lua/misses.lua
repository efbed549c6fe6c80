-- Noting which nodes miss what is written; after replicas.lua. ARGV[3] the number of keys noted for one node.
--
-- dc:missed:<tag in hex>: hash, key -> the largest stamp that was missed. dc:slots:<tag>: a bit for each slot of the keys
-- that were too many. While there is either, the fence calls the node behind.
local function call_behind(tag)
  for at = 67, #fence, 4 do
    if string.sub(fence, at, at + 3) == tag then
      return
    end
  end
  fence = fence .. tag
  redis.call('SET', 'dc:node', fence)
end

-- absent: tags of nodes, 4 bytes each. O(number of them).
local function note(key, stamp, absent, slot)
  for at = 1, #absent, 4 do
    local tag = string.sub(absent, at, at + 3)
    local name = string.format('%02x%02x%02x%02x', string.byte(tag, 1, 4))
    local noted = redis.call('HGET', 'dc:missed:' .. name, key)
    if not noted and redis.call('HLEN', 'dc:missed:' .. name) >= tonumber(ARGV[3]) then
      redis.call('SETBIT', 'dc:slots:' .. name, slot, 1)
    elseif not noted or newer(stamp, noted) then
      redis.call('HSET', 'dc:missed:' .. name, key, stamp)
    end
    call_behind(tag)
  end
end
