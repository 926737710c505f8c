-- Routes, which find their way to a key by themselves, beside lookups that ask node by node: hops, packets and success
-- in networks of different sizes, and with a tenth and a half of the contacts dead.
--
--   kademlua sim route.lua [quick]

local sizes, keys, searches = { 100, 1000, 10000 }, 50, 200
if arg[1] == "quick" then sizes, keys, searches = { 30, 100 }, 10, 30 end
local shares = { 0, 0.1, 0.5 }

local function percent(part) return ("%.1f"):format(100 * part) end

print("                 routes                                          lookups")
print("  nodes   dead   hops  packets  found by try 1    2      3  in all  packets   found")
for step, size in ipairs(sizes) do
  for turn, dead in ipairs(shares) do
    progress((step - 1) * #shares + turn - 1, #sizes * #shares)
    local n = net { nodes = size, seed = 1, latency = { 20, 80 } }
    for i = 1, keys do n:add(n:random(), sha1("key " .. i), "value " .. i) end
    if dead > 0 then n:kill(dead) end
    local hops, packets, tries, found = 0, 0, { 0, 0, 0 }, 0
    local messages, looked_up = 0, 0
    -- Each by a node of its own, and the routes first: whoever asks learns who is dead.
    for i = 1, searches do
      local key = sha1("key " .. i % keys + 1)
      local way = n:trace(route, n:random(), key)
      packets = packets + way.messages
      if way.found then found = found + 1 end
      if not way.fallback then
        hops = hops + way.hops
        for try = math.max(#way.attempts, 1), 3 do tries[try] = tries[try] + 1 end
      end
    end
    for i = 1, searches do
      local result = n:findvalue(n:random(), sha1("key " .. i % keys + 1), 1)
      messages = messages + result.messages
      if #result.values > 0 then looked_up = looked_up + 1 end
    end
    local direct = math.max(tries[3], 1)
    row {
      nodes = size, dead = dead, hops = hops / direct, packets = packets / searches, found = found / searches,
      found_by_1 = tries[1] / searches, found_by_2 = tries[2] / searches, found_by_3 = tries[3] / searches,
      lookup_packets = messages / searches, lookup_found = looked_up / searches,
    }
    print(("%7d %5d%% %6.2f %8.1f %15s%% %5s%% %5s%% %6s%% %8.1f %6s%%"):format(
      size, 100 * dead, hops / direct, packets / searches, percent(tries[1] / searches), percent(tries[2] / searches),
      percent(tries[3] / searches), percent(found / searches), messages / searches, percent(looked_up / searches)))
  end
end
