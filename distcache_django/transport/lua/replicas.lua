-- What the scripts on replicated records share; put in front of each of them. ARGV[1] the topology, ARGV[2] the last
-- moment (ms, of this node) at which anything may be changed.
-- Every result is {fence, now in ms, verdict, outcome}; verdict 1: too late, 2: not registered, or of another topology.
--
-- dc:node, the fence: '2', incarnation (8 bytes), run_id (40), end of the quarantine (8), state (1: n, r, u), topology (8),
-- tags (4 each) of the nodes that miss writes which are here.
-- A record: \16, kind (1), stamp (14), its end (ms, 8; 0 for none), touched (8), how the incarnation begins of the node that
-- wrote it (4), payload. Of another incarnation it is void. dc:p:<key>: a promise, the stamp below which nothing is stored.
--
-- Lua compares strings by the rules of the server's language, and knows integers up to 2^53 only: stamps and totals are
-- compared byte by byte.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fence = redis.call('GET', 'dc:node')
if now > tonumber(ARGV[2]) then
  return { fence or '', now, 1 }
end
if not fence or string.sub(fence, 1, 1) ~= '2' or string.sub(fence, 59, 66) ~= ARGV[1]
  or redis.call('EXISTS', 'dc:count') == 0 then
  return { fence or '', now, 2 }
end
local present = string.sub(fence, 2, 5)

local function result(outcome)
  return { fence, now, 0, outcome }
end

-- Whether a is greater than b, of the same length.
local function newer(a, b)
  if a == b then
    return false
  end
  for at = 1, #a do
    local one, other = string.byte(a, at), string.byte(b, at)
    if one ~= other then
      return one > other
    end
  end
  return false
end

-- The beginning of a record, to its byte `last` (-1 for all of it); nil where there is no record.
local function read(key, last)
  local found = redis.pcall('GETRANGE', key, 0, last)
  if type(found) ~= 'string' or #found < 36 or string.byte(found) ~= 16 then
    return nil
  end
  return found
end

local function stamp_of(record)
  return string.sub(record, 3, 16)
end

local function is_void(record)
  return string.sub(record, 33, 36) ~= present
end

local function is_ahead(stamp, drift)
  return struct.unpack('>I6', stamp) > now + tonumber(drift)
end

-- Set when a key goes: in ttl ms, or never for ''.
local function expire(key, ttl)
  if ttl == '' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, ttl)
  end
end
