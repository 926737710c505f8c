-- How many hops a lookup takes in networks of different sizes: they grow about like the logarithm.
--
--   kademlua sim hops.lua [quick]

local sizes = { 10, 100, 1000, 10000 }
local lookups = 100
if arg[1] == "quick" then sizes, lookups = { 10, 30, 100 }, 20 end

print("  nodes  log2 N   hops  messages  at most hops")
for step, size in ipairs(sizes) do
  progress(step - 1, #sizes)
  local n = net { nodes = size, seed = 1, latency = { 20, 80 } }
  for i = 1, lookups do n:findnode(n:random(), sha1("target " .. i)) end
  local stats = n:stats()
  local hops, messages, most = 0, 0, 0
  for i = 1, stats.count do
    hops, messages = hops + stats.hops[i], messages + stats.messages[i]
    most = math.max(most, stats.hops[i])
  end
  row { nodes = size, hops = hops / lookups, messages = messages / lookups, most = most }
  print(("%7d %7.1f %6.2f %9.1f %13d"):format(size, math.log(size, 2), hops / lookups, messages / lookups, most))
end
