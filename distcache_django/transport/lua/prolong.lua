-- Give a lock that the caller holds a new time to live.
-- KEYS[1] the lock; ARGV[1] the nonce of the holder; ARGV[2] ms; ARGV[3] 1 to add them to what is left, 0 to replace it.
-- Result: 1 if done, else 0. O(1).
local record = redis.call('GET', KEYS[1])
local token, nonce = string.match(record or '', '^(%d+):(.*)$')
if nonce ~= ARGV[1] then
  return 0
end
local ttl = tonumber(ARGV[2])
if ARGV[3] == '1' then
  ttl = ttl + math.max(0, redis.call('PTTL', KEYS[1]))
end
return redis.call('PEXPIRE', KEYS[1], ttl)
