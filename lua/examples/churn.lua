-- What becomes of values while nodes come and go: each hour a tenth of the nodes dies and as many
-- join. Values are republished hourly, or, for comparison, never within the run.
--
--   kademlua sim churn.lua [quick]

local nodes, values, hours = 300, 50, 12
if arg[1] == "quick" then nodes, values, hours = 60, 10, 2 end

local function survivors(settings)
  local n = net(settings)
  for v = 1, values do n:add(n:random(), sha1("value " .. v), "value " .. v) end
  local left = {}
  for hour = 1, hours do
    progress(#left, hours)
    n:run(1800)
    local dead = n:kill(0.1)
    n:join(#dead)
    n:run(1800)
    left[hour] = 0
    for v = 1, values do
      if #n:holders(sha1("value " .. v)) > 0 then left[hour] = left[hour] + 1 end
    end
  end
  return left
end

local with = survivors { nodes = nodes, seed = 3, k = 5 }
local without = survivors { nodes = nodes, seed = 3, k = 5, republish = 1e6 }
print("values left of " .. values .. ", k = 5, a tenth of the nodes replaced each hour")
print("  hour  republished hourly  never republished")
for hour = 1, hours do
  row { hour = hour, republished = with[hour], never_republished = without[hour], values = values }
  print(("%6d %19d %18d"):format(hour, with[hour], without[hour]))
end
