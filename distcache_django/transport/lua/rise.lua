-- Let the node vote if it is of the incarnation that was healed.
-- ARGV[3] the incarnation, ARGV[4] who was raised together with it, or ''.
-- Outcome: 1 if it is, else 0. O(1).
if string.sub(fence, 2, 9) ~= ARGV[3] then
  return result(0)
end
fence = string.sub(fence, 1, 57) .. 'u' .. string.sub(fence, 59)
redis.call('SET', 'dc:node', fence)
if ARGV[4] ~= '' then
  redis.call('SET', 'dc:founders', ARGV[4])
end
return result(1)
