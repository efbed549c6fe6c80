-- Put a mark on records. A mark of the same token is prolonged, expired ones are settled; so are a few records whose
-- writers never came back.
-- KEYS the records; ARGV[1] ms the mark lives, ARGV[2] its token, ARGV[3] ms a record lives without marks.
-- Result: 1; nil from a node that has to be registered first. O(N).
if not incarnation then
  return false
end
for _, key in ipairs(KEYS) do
  local version, kind, marks = read(key)
  if not version then
    version, kind, marks = fresh(), 'd', {}
  end
  marks = without(marks, ARGV[2])
  marks[#marks + 1] = { now + tonumber(ARGV[1]), ARGV[2] }
  write(key, version, kind, marks, ARGV[3])
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', 'dc:marked', '-inf', now, 'LIMIT', 0, 8)) do
  local version, kind, marks = read(key)
  if version then
    write(key, version, kind, marks, ARGV[3])
  else
    redis.call('DEL', key)
    redis.call('ZREM', 'dc:marked', key)
  end
end
return 1
