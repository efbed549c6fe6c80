-- Noting which nodes miss what is written; after replicas.lua. ARGV[3] the number of keys noted for one node.
--
-- dc:missed:<tag in hex>: hash, key -> the largest stamp that was missed, a serial (8 bytes), and when the record of that
-- stamp ends (8 bytes, as it says itself; 1 for a tombstone). dc:slots:<tag in hex>: hash, slot -> a serial, for the keys
-- that were too many. While there is either, the fence calls the node behind.
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

local function ending(record)
  return string.sub(record, 2, 2) == 't' and struct.pack('>I8', 1) or string.sub(record, 17, 24)
end

-- Let what is noted of a key be about what has come in the place of the record it was about: that record has not been
-- evicted. O(number of nodes that are behind).
local function renote(key, stamp, ends)
  for at = 67, #fence, 4 do
    local name = 'dc:missed:' .. string.format('%02x%02x%02x%02x', string.byte(fence, at, at + 3))
    local noted = redis.call('HGET', name, key)
    if noted and not newer(string.sub(noted, 1, 14), stamp) then
      redis.call('HSET', name, key, stamp .. string.sub(noted, 15, 22) .. ends)
    end
  end
end

-- absent: tags of nodes, 4 bytes each. O(number of them).
local function note(key, record, absent, slot)
  local stamp = stamp_of(record)
  for at = 1, #absent, 4 do
    local tag = string.sub(absent, at, at + 3)
    local name = string.format('%02x%02x%02x%02x', string.byte(tag, 1, 4))
    local noted = redis.call('HGET', 'dc:missed:' .. name, key)
    local serial = redis.call('INCR', 'dc:serial')
    if not noted and redis.call('HLEN', 'dc:missed:' .. name) >= tonumber(ARGV[3]) then
      redis.call('HSET', 'dc:slots:' .. name, slot, serial)
    else
      local largest, ends = stamp, ending(record)
      if noted and newer(string.sub(noted, 1, 14), stamp) then
        largest, ends = string.sub(noted, 1, 14), string.sub(noted, 23, 30)
      end
      redis.call('HSET', 'dc:missed:' .. name, key, largest .. struct.pack('>I8', serial) .. ends)
    end
    call_behind(tag)
  end
end
