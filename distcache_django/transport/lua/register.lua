-- Agree on the node's incarnation; take a new one if its memory is not the one it had.
-- ARGV[1] an incarnation, ARGV[2] ms of quarantine, ARGV[3] a topology (8 bytes, or '').
-- The state is then n if nothing is known of a past, else r, and who is behind stays so. dc:marked stays: what it names
-- and is void now would never expire by itself. The topology is written where there is none.
-- Result: the incarnation, ms of quarantine left, the fence, now in ms. O(1).
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
run_id = string.sub(run_id .. string.rep('0', 40), 1, 40)
local quarantine = tonumber(ARGV[2])
local none = string.rep('\0', 8)
local before = fence
if not incarnation or string.sub(fence, 10, 49) ~= run_id then
  local rest = is_known and 'r' .. string.sub(fence, 59) or 'n' .. none
  incarnation = ARGV[1]
  fence = '2' .. incarnation .. run_id .. struct.pack('>I8', now + quarantine) .. rest
  redis.call('SET', 'dc:count', 0)
end
if ARGV[3] ~= '' and string.sub(fence, 59, 66) == none then
  fence = string.sub(fence, 1, 58) .. ARGV[3] .. string.sub(fence, 67)
end
if fence ~= before then
  redis.call('SET', 'dc:node', fence)
end
local left = struct.unpack('>I8', fence, 50) - now
return { incarnation, math.max(0, math.min(left, quarantine)), fence, now }
