-- What k buys: values that can still be found when half of all nodes die at once, and what storing
-- one costs.
--
--   kademlua sim k.lua [quick]

local nodes, values = 500, 100
if arg[1] == "quick" then nodes, values = 100, 20 end

print(" k  messages a store  found after half died")
for step, k in ipairs { 1, 2, 5, 10, 20 } do
  progress(step - 1, 5)
  local n = net { nodes = nodes, seed = 9, k = k }
  local messages = 0
  for v = 1, values do
    messages = messages + n:add(n:random(), sha1("value " .. v), v).messages
  end
  n:kill(0.5)
  n:stats("reset")
  for v = 1, values do n:findvalue(n:random(), sha1("value " .. v)) end
  local success = n:stats().success
  row { k = k, messages = messages / values, found = success }
  print(("%2d %17.1f %21.0f%%"):format(k, messages / values, 100 * success))
end
