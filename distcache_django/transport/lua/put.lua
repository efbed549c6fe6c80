-- Store records that are newer than what is there; join those that are there already.
-- KEYS the keys; ARGV[3] the number of keys noted for one node, ARGV[4] how many ms ahead a stamp may be, ARGV[5] 1 to
-- overwrite void records whatever their stamp; then for each key its record, the ms it is kept ('' for ever), the tags of
-- the nodes that miss it, its slot.
-- Outcome: for each key 'S' stored, '=' the same, 'O' and the stamp of a newer record, 'P' and a newer promise, 'A' too far
-- ahead. O(N).

-- Take over what the same write has here and there, in place; the key keeps its expiry unless its life changes.
local function join(key, held, record, ttl)
  local is_later = newer(string.sub(record, 25, 32), string.sub(held, 25, 32))
  local before = string.sub(held, 17, 36)
  local after = string.sub(is_later and record or held, 17, 32) .. present
  if string.sub(held, 2, 2) == 'c' and string.sub(record, 2, 2) == 'c' then
    before = redis.call('GETRANGE', key, 16, -1)
    local base, fields, folded = counter(string.sub(before, 21))
    local _, more_fields, more_folded = counter(string.sub(record, 37))
    after = after .. base .. joined(fields, more_fields, 24) .. joined(folded, more_folded, 32)
  end
  if after ~= before then
    redis.call('SETRANGE', key, 16, after)
  end
  if is_later then
    expire(key, ttl)
  end
end

local function put(key, record, ttl)
  local stamp = stamp_of(record)
  if is_ahead(stamp, ARGV[4]) then
    return 'A'
  end
  local held = read(key, 35)
  if held and ARGV[5] == '1' and stamp_of(held) ~= stamp and is_void(held) then
    held = nil
  end
  if held and newer(stamp_of(held), stamp) then
    return 'O' .. stamp_of(held)
  end
  local promise = redis.call('GET', 'dc:p:' .. key)
  if promise and newer(promise, stamp) then
    return 'P' .. promise
  end
  if held and stamp_of(held) == stamp then
    join(key, held, record, ttl)
    return '='
  end
  -- The node's own bytes go in afterwards: putting large strings together costs more.
  if ttl == '' then
    redis.call('SET', key, record)
  else
    redis.call('SET', key, record, 'PX', ttl)
  end
  redis.call('SETRANGE', key, 32, present)
  return 'S'
end

local answers = {}
for i, key in ipairs(KEYS) do
  local at = 2 + 4 * i
  local answer = put(key, ARGV[at], ARGV[at + 1])
  if answer == 'S' or answer == '=' then
    if #fence > 66 then
      local there = read(key, 35)
      renote(key, stamp_of(there), ending(there))
    end
    note(key, ARGV[at], ARGV[at + 2], ARGV[at + 3])
  end
  answers[i] = answer
end
return result(answers)
