-- What the scripts on version records share; put in front of each of them.
--
-- dc:node, the fence: '2', incarnation (8 bytes), run_id (40), end of the quarantine (ms, 8), and what replicas.lua says.
-- dc:count: versions made. Without either, or with a fence of another format, the node has no incarnation.
-- A record: incarnation (8), count (8): its version. With marks also: 'k' or 'd' (created by a mark: dropped with the last
-- one), and for each mark its deadline (ms, 8) and token (8). Marked records have no expiry, so that volatile eviction spares
-- them; dc:marked holds their keys by deadline.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fence = redis.call('GET', 'dc:node')
local is_known = fence and string.sub(fence, 1, 1) == '2'
local incarnation = is_known and redis.call('EXISTS', 'dc:count') == 1 and string.sub(fence, 2, 9)

local function fresh()
  return incarnation .. struct.pack('>I8', redis.call('INCR', 'dc:count'))
end

-- Return version, kind and marks (a list of {deadline, token}) of a record, or nil where it is missing or void: all are
-- void on a node without an incarnation.
-- Expired marks are left out; with one, the version is a new one.
local function read(key)
  local record = redis.call('GET', key)
  if not record or string.sub(record, 1, 8) ~= incarnation then
    return nil
  end
  local version, marks = string.sub(record, 1, 16), {}
  if #record == 16 then
    return version, 'k', marks, false
  end
  local expired = false
  for at = 18, #record, 16 do
    local deadline = struct.unpack('>I8', record, at)
    if deadline > now then
      marks[#marks + 1] = { deadline, string.sub(record, at + 8, at + 15) }
    else
      expired = true
    end
  end
  if expired then
    version = fresh()
  end
  return version, string.sub(record, 17, 17), marks, expired
end

local function write(key, version, kind, marks, ttl)
  if #marks > 0 then
    local parts, last = { version, kind }, 0
    for _, mark in ipairs(marks) do
      parts[#parts + 1] = struct.pack('>I8', mark[1]) .. mark[2]
      last = math.max(last, mark[1])
    end
    redis.call('SET', key, table.concat(parts))
    redis.call('ZADD', 'dc:marked', last, key)
    return
  end
  redis.call('ZREM', 'dc:marked', key)
  if kind == 'd' then
    redis.call('DEL', key)
  else
    redis.call('SET', key, version, 'PX', ttl)
  end
end

local function without(marks, token)
  local kept = {}
  for _, mark in ipairs(marks) do
    if mark[2] ~= token then
      kept[#kept + 1] = mark
    end
  end
  return kept
end
