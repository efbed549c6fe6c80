-- Agree on the node's incarnation; take a new one if its memory is not the one it had.
-- ARGV[1] an incarnation, ARGV[2] ms of quarantine.
-- dc:marked stays: what it names and is void now would never expire by itself.
-- Result: the incarnation, ms of quarantine left. O(1).
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
run_id = string.sub(run_id .. string.rep('0', 40), 1, 40)
local quarantine = tonumber(ARGV[2])
if not incarnation or string.sub(fence, 10, 49) ~= run_id then
  incarnation = ARGV[1]
  fence = '1' .. incarnation .. run_id .. struct.pack('>I8', now + quarantine)
  redis.call('SET', 'dc:node', fence)
  redis.call('SET', 'dc:count', 0)
end
local left = struct.unpack('>I8', fence, 50) - now
return { incarnation, math.max(0, math.min(left, quarantine)) }
