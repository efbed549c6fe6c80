-- Make missing and void records, settle expired marks, keep the rest alive; take a lease if one is named.
-- KEYS the records, then the lease and the value it is about; ARGV[1] how many records, ARGV[2] ms they live,
-- ARGV[3] nonce, ARGV[4] ms of the lease, ARGV[5] how many bytes of the value are asked for.
-- Result: how the value begins if the lease was taken, else 0, then the records; nil from a node that has to be
-- registered first. O(N).
if not incarnation then
  return false
end
local records = { 0 }
for i = 1, tonumber(ARGV[1]) do
  local key = KEYS[i]
  local version, kind, marks, changed = read(key)
  if not version or (kind == 'd' and #marks == 0) then
    write(key, fresh(), 'k', {}, ARGV[2])
  elseif changed then
    write(key, version, kind, marks, ARGV[2])
  elseif #marks == 0 and redis.call('PTTL', key) < tonumber(ARGV[2]) / 2 then
    redis.call('PEXPIRE', key, ARGV[2])
  end
  records[i + 1] = redis.call('GET', key)
end
if ARGV[3] ~= '' and redis.call('SET', KEYS[#KEYS - 1], ARGV[3], 'NX', 'PX', ARGV[4]) then
  records[1] = redis.call('GETRANGE', KEYS[#KEYS], 0, ARGV[5] - 1)
end
return records
