-- The functions of the shell as Rust provides them, with the shapes of their results; and those that ask a node, which
-- are written once for all nodes.
--
-- Handed in: `native`, `pretty`, `draw`, the results of the files in draw/, and `sandbox` (sandbox.lua), into whose
-- environment they go. Handed back: `at`, the functions that ask a node, by name: their first argument is a site,
-- which says which node is asked: one that Rust has made, or nothing for the shell's own node; `traceable`, the
-- names of those that trace() takes, and `traced`, all functions that go by them; `name_of_traced` and `trace_at`,
-- from which methods are made; `kinds`, the kinds of results by name; and `keys`, the keys of recent stores, as
-- they would be typed.

local native, pretty, draw, sandbox = ...
local env, settle, shapes = sandbox.env, sandbox.settle, pretty.shapes
local error, type, tostring, next, ipairs = error, type, tostring, next, ipairs
local setmetatable = setmetatable
local insert, remove, gsub = table.insert, table.remove, sandbox.gsub

local shape_of = {
  add = "stored", put = "stored", findvalue = "findvalue", route = "route", findnode = "findnode", ping = "ping",
  getsocket = "socket", bootstrap = "bootstrap", contacts = "contacts", node = "node", info = "node",
  estimate = "estimate", lookups = "lookups", settings = "settings", xdp = "xdp", gc = "memory", packets = "packets",
  untap = "untap", tasks = "tasks", capture = "capture", spawn = "task", every = "task", after = "task", rpc = "task",
  tap = "task", routing = "routing", tree = "tree", ring = "ring",
}

-- The kinds of their other results, for completion.
local kinds = setmetatable({
  trace = "trace", net = "net", cluster = "nodes", hist = "hist", plot = "plot", bars = "bars", explain = "explain", help = "help",
}, { __index = shape_of })

for name, f in next, native.functions do
  local shape = shapes[shape_of[name]]
  env[name] = function(...) return settle(shape, f(...)) end
end

local at = {}
for name, f in next, native.asking do
  local shape = shapes[shape_of[name]]
  at[name] = function(site, ...) return settle(shape, f(site, ...)) end
end

-- For completion: the keys of recent stores, as they would be typed, and the texts that were hashed recently,
-- from which keys are made.
local KEYS, TEXTS, TEXT_BYTES = 50, 1000, 60
local keys, text_of, texts = {}, {}, 0

local function note_key(key)
  local id = native.id_of(key)
  local text = text_of[id] and "sha1(" .. pretty.value(text_of[id]) .. ")" or '"' .. tostring(id) .. '"'
  for i, known in ipairs(keys) do
    if known == text then remove(keys, i) end
  end
  insert(keys, 1, text)
  keys[KEYS + 1] = nil
end

for _, name in ipairs { "add", "put" } do
  local store = at[name]
  at[name] = function(site, key, ...)
    local result = store(site, key, ...)
    note_key(key)
    return result
  end
end

local raw_sha1 = env.sha1
function env.sha1(text, ...)
  local hash = raw_sha1(text, ...)
  if texts == TEXTS then text_of, texts = {}, 0 end
  if type(text) == "string" and #text <= TEXT_BYTES then text_of[native.tohex(hash)], texts = text, texts + 1 end
  return hash
end

-- One of the drawings of the result of routing().
local raw_routing = native.asking.routing
local function drawn(name, key, ok, result)
  if not ok then error((gsub(result, "routing:", name .. ":", 1))) end
  return setmetatable(draw.routing[name](result, key), shapes[name])
end
for name in next, draw.routing do
  at[name] = function(site, key) return drawn(name, key, raw_routing(site)) end
end

function at.lookups(site)
  local list = settle(shapes.lookups, native.asking.lookups(site))
  for _, lookup in ipairs(list) do setmetatable(lookup, shapes.trace) end
  return list
end

-- `trace(findvalue, key)`: the result of a call, shown query by query.
local traceable = { "add", "put", "findvalue", "findnode", "route" }
local traced = setmetatable({}, { __mode = "k" })
for _, name in ipairs(traceable) do traced[name] = name end

local function name_of_traced(what, caller)
  local name = what ~= nil and traced[what]
  if not name then
    error(caller .. ": expected add, put, findvalue, findnode or route, got " .. pretty.value(what))
  end
  return name
end

local function trace_at(caller, site, what, ...)
  if name_of_traced(what, caller) == "route" then
    local key, kind = ...
    -- With the marks of the nodes on its way, which route() leaves out.
    return settle(shapes.route, native.asking.route(site, key, kind, true))
  end
  return settle(shapes.trace, native.asking[name_of_traced(what, caller)](site, ...))
end
function at.trace(site, what, ...) return trace_at("trace", site, what, ...) end

env.quit = env.exit

if native.has_node then
  for name, f in next, at do
    env[name] = function(...) return f(nil, ...) end
  end
end

-- Drawings of numbers and ids.

for name, make in next, draw.charts do
  env[name] = function(...) return setmetatable(make(...), shapes[name]) end
end

function env.explain(...) return setmetatable(draw.ids.explain(...), shapes.explain) end

return {
  at = at, traceable = traceable, traced = traced, name_of_traced = name_of_traced, trace_at = trace_at, kinds = kinds,
  keys = keys,
}
