-- Delete records that are not newer than a stamp, void ones too: what was noted of them is over.
-- KEYS the keys; ARGV[3] and on the stamp for each.
-- Outcome: the number of deleted records. O(N × number of nodes that are behind).
local count = 0
for i, key in ipairs(KEYS) do
  local held = read(key, 35)
  if not held or not newer(stamp_of(held), ARGV[2 + i]) then
    if held then
      redis.call('UNLINK', key)
      count = count + 1
    end
    renote(key, ARGV[2 + i], struct.pack('>I8', 1))
  end
end
return result(count)
