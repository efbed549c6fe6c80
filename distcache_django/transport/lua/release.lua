-- Free a lock that the caller holds; its token is kept for a day.
-- KEYS[1] the lock; ARGV[1] the nonce of the holder. Result: 1 if it was freed, 0 if someone else or nobody holds it. O(1).
local record = redis.call('GET', KEYS[1])
local token, nonce = string.match(record or '', '^(%d+):(.*)$')
if nonce ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], token .. ':', 'PX', 86400000)
return 1
