-- Take a lock. The record is "<token>:<nonce>"; a released lock keeps "<token>:" so that tokens only ever grow.
-- KEYS[1] the lock; ARGV[1] the nonce of who asks; ARGV[2] time to live in ms, 0 for none.
-- Result: the fencing token as a string, or nil while another nonce holds the lock. O(1). Repeatable.
local record = redis.call('GET', KEYS[1])
local last = 0
if record then
  local token, nonce = string.match(record, '^(%d+):(.*)$')
  if not token then
    return redis.error_reply('WRONGTYPE the key holds a value that is not a lock')
  end
  if nonce == ARGV[1] then
    return token
  end
  if nonce ~= '' then
    return false
  end
  last = tonumber(token)
end
local time = redis.call('TIME')
local token = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[1])
else
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[1], 'PX', ARGV[2])
end
return token
