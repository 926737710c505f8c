-- What an attacker wins who chooses ids nearest to a key and has few addresses. Before a value is stored,
-- his nodes join, nearer to the key than anybody else. They take stored values, tell nobody, and name one
-- another. A search succeeds if it finds the value. The subnet limits leave places for honest holders;
-- they do not hold back an attacker with addresses all over the world.
--
--   kademlua sim sybil.lua [quick]

local nodes, trials, counts = 200, 5, { 5, 10, 20, 40 }
if arg[1] == "quick" then nodes, trials, counts = 100, 2, { 5, 20 } end

local seven = {}
for i = 1, 7 do seven[i] = ("203.0.%d.0/24"):format(i) end
local places = {
  { "one /24", { "203.0.113.0/24" }, "public" },
  { "seven /24", seven, "public" },
  { "/64s of a /56", { "2001:db8:0:100::/56" }, "public6" },
  { "anywhere", nil, "public" },
}

local function holds(values, value)
  for _, entry in ipairs(values) do
    if entry.value == value then return true end
  end
  return false
end

-- How often a value is found next to each number of chosen ids.
local function found(ranges, addresses, paths)
  local n = net { nodes = nodes, seed = 13, paths = paths, addresses = addresses }
  local hits = {}
  for trial = 1, trials do
    local key, honest, attackers = sha1("key " .. trial), n:alive(), {}
    for i, count in ipairs(counts) do
      for _, node in ipairs(n:join(count - #attackers, key, 40, ranges)) do table.insert(attackers, node) end
      n:lie(attackers, "collude")
      local value = "value next to " .. count
      n:put(honest[trial], key, value)
      local values = n:findvalue(honest[#honest - trial], key).values
      hits[i] = (hits[i] or 0) + (holds(values, value) and 1 or 0)
    end
    n:kill(attackers)
  end
  return hits
end

print("            found on 1 path and on 8, attackers in")
local head, lines = "chosen ids", {}
for i, count in ipairs(counts) do lines[i] = ("%10d"):format(count) end
for step, place in ipairs(places) do
  progress(step - 1, #places)
  local name, ranges, addresses = table.unpack(place)
  head = head .. ("%15s"):format(name)
  local on_one, on_eight = found(ranges, addresses, 1), found(ranges, addresses, 8)
  for i, count in ipairs(counts) do
    row { ids = count, place = name, on_1_path = on_one[i] / trials, on_8_paths = on_eight[i] / trials }
    lines[i] = lines[i] .. ("%9.0f%%%4.0f%%"):format(100 * on_one[i] / trials, 100 * on_eight[i] / trials)
  end
end
print(head)
print(table.concat(lines, "\n"))
