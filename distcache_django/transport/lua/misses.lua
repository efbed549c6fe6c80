-- Noting which nodes miss what is written; after replicas.lua. ARGV[3] the number of keys noted for one node.
--
-- dc:missed:<tag in hex>: hash, key -> the largest stamp that was missed, and a serial (8 bytes). dc:slots:<tag in hex>:
-- hash, slot -> a serial, for the keys that were too many. While there is either, the fence calls the node behind.
-- Each note takes a new serial from dc:serial: what is settled is only what was known when the node was repaired.
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
    local serial = redis.call('INCR', 'dc:serial')
    if not noted and redis.call('HLEN', 'dc:missed:' .. name) >= tonumber(ARGV[3]) then
      redis.call('HSET', 'dc:slots:' .. name, slot, serial)
    else
      local before = noted and string.sub(noted, 1, 14) or stamp
      local largest = newer(before, stamp) and before or stamp
      redis.call('HSET', 'dc:missed:' .. name, key, largest .. struct.pack('>I8', serial))
    end
    call_behind(tag)
  end
end
