-- Change when a record ends, and leave its payload as it is.
-- KEYS[1] the key; ARGV[3] the number of keys noted for one node, ARGV[4] the stamp of the record, ARGV[5] its new end and
-- when it was touched (8 bytes each), ARGV[6] the ms it is kept ('' for ever), ARGV[7] the tags of the nodes that miss it,
-- ARGV[8] its slot.
-- Outcome: 'S' done or touched later already, 'O' and the stamp of a newer record, 'B' an older one or none. O(1).
local key, stamp = KEYS[1], ARGV[4]
local held = read(key, 35)
if not held or is_void(held) or newer(stamp, stamp_of(held)) then
  return result('B')
end
if stamp_of(held) ~= stamp then
  return result('O' .. stamp_of(held))
end
if newer(string.sub(ARGV[5], 9, 16), string.sub(held, 25, 32)) then
  redis.call('SETRANGE', key, 16, ARGV[5])
  expire(key, ARGV[6])
end
note(key, stamp, ARGV[7], ARGV[8])
return result('S')
