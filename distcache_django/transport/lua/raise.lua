-- Raise one field of a counter.
-- KEYS[1] the counter; ARGV[3] the number of keys noted for one node, ARGV[4] the stamp of its base, ARGV[5] the field:
-- name, plus, minus (8 bytes each), ARGV[6] the tags of the nodes that miss it, ARGV[7] its slot.
-- Outcome: {'S', record} raised, {'N', record} a newer one or no counter, {'B', record or nil} an older one or none,
-- {'P', stamp} of a newer promise. O(number of fields).
local key, base = KEYS[1], ARGV[4]
local record = read(key, -1)
if record and is_void(record) then
  record = nil
end
if record and newer(stamp_of(record), base) then
  return result({ 'N', record })
end
local promise = redis.call('GET', 'dc:p:' .. key)
if promise and newer(promise, base) then
  return result({ 'P', promise })
end
if not record or stamp_of(record) ~= base then
  return result({ 'B', record or false })
end
if string.sub(record, 2, 2) ~= 'c' then
  return result({ 'N', record })
end
local value, fields, folded = counter(string.sub(record, 37))
local payload = value .. joined(fields, ARGV[5], 24) .. joined(folded, '', 32)
if payload ~= string.sub(record, 37) then
  redis.call('SETRANGE', key, 36, payload)
end
note(key, record, ARGV[6], ARGV[7])
return result({ 'S', string.sub(record, 1, 36) .. payload })
