-- Promise to store nothing older than a ballot.
-- KEYS[1] the key; ARGV[3] how many ms ahead a ballot may be, ARGV[4] ms that a promise is kept, ARGV[5] the ballot.
-- Outcome: {'P', record or nil} promised, {'O', stamp} of what is as new or newer, {'A', ''} too far ahead, {'R', ''} not
-- up. O(1).
if string.sub(fence, 58, 58) ~= 'u' then
  return result({ 'R', '' })
end
local ballot = ARGV[5]
if is_ahead(ballot, ARGV[3]) then
  return result({ 'A', '' })
end
local record = read(KEYS[1], -1)
local newest = redis.call('GET', 'dc:p:' .. KEYS[1])
if record and not (newest and newer(newest, stamp_of(record))) then
  newest = stamp_of(record)
end
if newest and newer(newest, ballot) or record and stamp_of(record) == ballot then
  return result({ 'O', newest })
end
redis.call('SET', 'dc:p:' .. KEYS[1], ballot, 'PX', ARGV[4])
return result({ 'P', record and not is_void(record) and record or false })
