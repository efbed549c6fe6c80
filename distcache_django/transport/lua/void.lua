-- Delete records that are not newer than a stamp, void ones too.
-- KEYS the keys; ARGV[3] and on the stamp for each.
-- Outcome: the number of deleted records. O(N).
local count = 0
for i, key in ipairs(KEYS) do
  local held = read(key, 35)
  if held and not newer(stamp_of(held), ARGV[2 + i]) then
    redis.call('UNLINK', key)
    count = count + 1
  end
end
return result(count)
