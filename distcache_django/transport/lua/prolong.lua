-- Give a lock a new time to live if the caller holds it.
-- KEYS[1] the lock; ARGV[1] the nonce of the holder; ARGV[2] time to live in ms. Result: 1 if done, else 0. O(1).
local record = redis.call('GET', KEYS[1])
local token, nonce = string.match(record or '', '^(%d+):(.*)$')
if nonce ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
