-- Store a value, if there is one, and free the lease of the one who loaded it.
-- KEYS[1] the value's key, KEYS[2] the lease; ARGV[1] the value or '', ARGV[2] ms it lives, ARGV[3] the lease's nonce.
-- Result: 1. O(1).
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if redis.call('GET', KEYS[2]) == ARGV[3] then
  redis.call('DEL', KEYS[2])
end
return 1
