-- Add to an integer that exists, keeping its expiry. INCRBY alone would create a missing key that never expires.
-- KEYS[1] the counter; ARGV[1] the amount. Result: the new value, or nil where there is no such key. O(1).
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
return redis.call('INCRBY', KEYS[1], ARGV[1])
