-- What disjoint paths buy when a share of the nodes lies: a third of the liars is silent, a third names
-- other liars, a third names nobody and returns a false value. A search succeeds if the true value is
-- among what it finds.
--
--   kademlua sim liars.lua [quick]

local nodes, searches, shares = 1000, 100, { 0, 0.1, 0.2, 0.3, 0.4 }
if arg[1] == "quick" then nodes, searches, shares = 200, 40, { 0, 0.2, 0.4 } end

print("         found, and messages a search, on")
print("liars       1 path      2 paths      4 paths      8 paths")
for step, share in ipairs(shares) do
  progress(step - 1, #shares)
  local line = ("%4.0f%%"):format(100 * share)
  for _, paths in ipairs { 1, 2, 4, 8 } do
    local n = net { nodes = nodes, seed = 13, paths = paths }
    local lies = {}
    for _, liar in ipairs(n:lie(share)) do lies[liar] = true end
    local function honest()
      local node
      repeat node = n:random() until not lies[node]
      return node
    end
    local found, messages = 0, 0
    for s = 1, searches do
      local key, value = sha1("key " .. s), "value " .. s
      n:add(honest(), key, value)
      local result = n:findvalue(honest(), key)
      messages = messages + result.messages
      for _, entry in ipairs(result.values) do
        if entry.value == value then
          found = found + 1
          break
        end
      end
    end
    row { liars = share, paths = paths, found = found / searches, messages = messages / searches }
    line = line .. ("%7.0f%% %4.0f"):format(100 * found / searches, messages / searches)
  end
  print(line)
end
