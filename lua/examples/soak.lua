-- A real network for a while: processes are killed and come back with their state on disk, while
-- values are stored and asked for. Never more than a fifth of them are down.
--
--   kademlua lua/examples/soak.lua [minutes [nodes [seed]]]

local minutes, nodes = tonumber(arg[1] or 10), tonumber(arg[2] or 100)
local seed = tonumber(arg[3] or os.time())
math.randomseed(seed)
print(("%d nodes for %g minutes, seed %d"):format(nodes, minutes, seed))

local c = cluster(nodes, true)
local down, stored = {}, {}
local failed, asked, refused, kills, starts = 0, 0, 0, 0, 0

local function random_alive()
  while true do
    local i = math.random(nodes)
    if not down[i] then return i end
  end
end

local function down_count()
  local count = 0
  for _ in pairs(down) do count = count + 1 end
  return count
end

local function store()
  local name = "value " .. #stored + 1
  local report = c:add(random_alive(), sha1(name), name)
  if #report.stored > 0 or report.kept_here then
    stored[#stored + 1] = name
  else
    refused = refused + 1
  end
end

local function is_found(name)
  for _, hit in ipairs(c:findvalue(random_alive(), sha1(name)).values) do
    if hit.value == name then return true end
  end
  return false
end

local function find()
  asked = asked + 1
  if not is_found(stored[math.random(#stored)]) then failed = failed + 1 end
end

local function kill()
  local i = random_alive()
  c:kill(i)
  down[i] = os.time() + math.random(5, 40)
  kills = kills + 1
end

local function start_due()
  for i, at in pairs(down) do
    if os.time() >= at then
      c:start(i)
      down[i] = nil
      starts = starts + 1
      return
    end
  end
end

-- Half of the nodes have at most this number.
local function middle(field)
  local list = {}
  for _, member in ipairs(c:status()) do
    if member.alive and member[field] then list[#list + 1] = member[field] end
  end
  table.sort(list)
  return list[(#list + 1) // 2] or 0, list[#list] or 0
end

local function measure(when)
  local kilobytes, most_kilobytes = middle("kilobytes")
  local files, most_files = middle("descriptors")
  print(("%-5s memory: half of the nodes at most %.0f kB, all %.0f kB; descriptors: %d, %d"):format(
    when, kilobytes, most_kilobytes, files, most_files))
end

for _ = 1, 20 do store() end
measure("start")
local start = os.time()
local half, finish = start + minutes * 30, start + minutes * 60
while os.time() < finish do
  progress(os.time() - start, finish - start)
  if half and os.time() >= half then
    measure("half")
    half = nil
  end
  start_due()
  if down_count() < nodes // 5 and math.random() < 0.4 then kill() end
  store()
  for _ = 1, 4 do find() end
  sleep(0.2)
end
for i in pairs(down) do c:start(i) end
measure("end")

local lost = 0
for _, name in ipairs(stored) do
  -- Once more from elsewhere before it is given up.
  if not is_found(name) and not is_found(name) then lost = lost + 1 end
end
print(("%d kills, %d starts; %d values stored, %d stores failed"):format(kills, starts, #stored, refused))
print(("%d of %d lookups failed meanwhile; %d of %d values are lost"):format(failed, asked, lost, #stored))
c:stop()
assert(lost == 0, "values are lost")
