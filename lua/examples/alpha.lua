-- What asking several nodes at once buys, and what it costs, when a fifth of the nodes has died
-- unnoticed.
--
--   kademlua sim alpha.lua [quick]

local nodes, lookups = 1000, 100
if arg[1] == "quick" then nodes, lookups = 100, 20 end

print("alpha  median ms  worst ms  messages  success")
for step, alpha in ipairs { 1, 3, 10 } do
  progress(step - 1, 3)
  local n = net { nodes = nodes, seed = 5, alpha = alpha, latency = { 20, 80 } }
  n:kill(0.2)
  for i = 1, lookups do n:findnode(n:random(), sha1("target " .. i)) end
  local stats, messages = n:stats(), 0
  for i = 1, stats.count do messages = messages + stats.messages[i] end
  table.sort(stats.ms)
  row {
    alpha = alpha, median_ms = stats.ms[(#stats.ms + 1) // 2], worst_ms = stats.ms[#stats.ms],
    messages = messages / stats.count, success = stats.success,
  }
  print(("%5d %10.0f %9.0f %9.1f %7.0f%%"):format(alpha, stats.ms[(#stats.ms + 1) // 2], stats.ms[#stats.ms],
    messages / stats.count, 100 * stats.success))
end
