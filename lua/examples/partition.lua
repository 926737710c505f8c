-- A network falls into two halves and grows together again: how many of the values that one half
-- stored meanwhile the other finds.
--
--   kademlua sim partition.lua [quick]

local nodes, values = 200, 50
if arg[1] == "quick" then nodes, values = 60, 10 end

local n = net { nodes = nodes, seed = 11 }
local sides = n:partition { 0.5 }

local function found(side, by)
  local count = 0
  for v = 1, values do
    local asker = sides[side][1 + v % #sides[side]]
    if #n:findvalue(asker, sha1(by .. v)).values > 0 then count = count + 1 end
  end
  return count
end

local function tell(when)
  local own, others = found(1, "left "), found(1, "right ")
  row { when = when, own = own, others = others, values = values }
  local function of(count) return ("%3d of %d"):format(count, values) end
  print(("%-21s %18s %19s"):format(when, of(own), of(others)))
end

for v = 1, values do
  n:add(sides[1][1 + v % #sides[1]], sha1("left " .. v), v)
  n:add(sides[2][1 + v % #sides[2]], sha1("right " .. v), v)
end
print("                      left finds its own  left finds right's")
tell("divided")
n:heal()
tell("healed just now")
n:run(3600 * 2)
tell("two hours later")
