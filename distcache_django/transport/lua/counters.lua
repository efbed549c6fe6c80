-- Joining counters of one base; after replicas.lua.
--
-- A payload: the base (8 bytes), the number of fields (2), each its name (8), plus (8), minus (8); the number of folded
-- ones (2), each name, plus, minus, and until when it is kept (8).

-- Return the base, the fields and the folded fields, the latter two without their number.
local function counter(payload)
  local middle = 11 + struct.unpack('>I2', payload, 9) * 24
  local folded = struct.unpack('>I2', payload, middle) * 32
  return string.sub(payload, 1, 8), string.sub(payload, 11, middle - 1),
    string.sub(payload, middle + 2, middle + 1 + folded)
end

-- Return the number of entries of both lists, and the entries; of one name each number at its largest. O(N).
local function joined(held, given, size)
  local entries, places = {}, {}
  for at = 1, #held, size do
    entries[#entries + 1] = string.sub(held, at, at + size - 1)
    places[string.sub(held, at, at + 7)] = #entries
  end
  for at = 1, #given, size do
    local entry, name = string.sub(given, at, at + size - 1), string.sub(given, at, at + 7)
    local place = places[name] or #entries + 1
    local before = entries[place] or entry
    if before ~= entry then
      local parts = { name }
      for from = 9, size, 8 do
        local one, other = string.sub(before, from, from + 7), string.sub(entry, from, from + 7)
        parts[#parts + 1] = newer(one, other) and one or other
      end
      entry = table.concat(parts)
    end
    entries[place] = entry
  end
  return struct.pack('>I2', #entries) .. table.concat(entries)
end
