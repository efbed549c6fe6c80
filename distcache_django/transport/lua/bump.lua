-- Take one mark off records; other marks stay.
-- KEYS the records; ARGV[1] ms a record lives, ARGV[2] the mark's token or '', ARGV[3] 1 to give new versions.
-- Result: 1; nil from a node that has to be registered first. O(N).
if not incarnation then
  return false
end
for _, key in ipairs(KEYS) do
  local version, kind, marks = read(key)
  if version then
    if ARGV[3] == '1' then
      version = fresh()
    end
    write(key, version, kind, without(marks, ARGV[2]), ARGV[1])
  end
end
return 1
