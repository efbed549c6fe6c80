-- Take one mark off records; other marks stay.
-- KEYS the records; ARGV[1] ms a record lives, ARGV[2] the mark's token or '', ARGV[3] 1 to give new versions.
-- A void record goes: clients that have not heard of the new incarnation would go on trusting it.
-- Result: 1. O(N).
for _, key in ipairs(KEYS) do
  local version, kind, marks = read(key)
  if not version then
    redis.call('DEL', key)
  else
    if ARGV[3] == '1' then
      version = fresh()
    end
    write(key, version, kind, without(marks, ARGV[2]), ARGV[1])
  end
end
return 1
