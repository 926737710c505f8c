-- Nodes beside the shell's own: those of simulated networks, of clusters, and of this user in other processes. Each is
-- asked by the functions of functions.lua.
--
-- Handed in: `native`, `pretty`, `sandbox` (sandbox.lua), into whose environment `net`, `node`, `on` and `cluster`
-- go, `functions` (functions.lua), and `manual` (manual.lua). Handed back: `methods` and `cluster_methods`, the
-- methods of networks and clusters by name; `network_of`, Rust's side of a network; `asking`, the names of functions
-- that `on` takes; and `data(t)`, which tells of a network, a node or a cluster as plain tables.

local native, pretty, sandbox, functions, manual = ...
local env, settle, shapes = sandbox.env, sandbox.settle, pretty.shapes
local at, traced, name_of_traced, trace_at = functions.at, functions.traced, functions.name_of_traced, functions.trace_at
local error, type, next, ipairs, select, rawget, rawequal = error, type, next, ipairs, select, rawget, rawequal
local setmetatable, getmetatable, pcall = setmetatable, getmetatable, pcall
local find, gsub = string.find, sandbox.gsub

-- Simulated networks: an object for each, whose methods are Rust's, those of its nodes, and those made here from
-- them. Rust's side of a network is kept apart from the side that a program sees.

local network_of = setmetatable({}, { __mode = "k" })
local methods = {}
local cluster_natives = {}

for name, f in next, native.methods do
  if find(name, "^c:") then
    cluster_natives[name] = f
    goto continue
  end
  name = gsub(name, "^n:", "")
  local shape = shapes[name]
  methods[name] = function(network, ...)
    return settle(shape, f(network_of[network] or network, ...))
  end
  ::continue::
end

local function site_in(network, name, i)
  return settle(nil, native.site("n:" .. name, network_of[network] or network, i))
end

-- `n:findvalue(i, key)`, but `n:trace(findvalue, i, key)`.
for name, f in next, at do
  methods[name] = function(network, i, ...) return f(site_in(network, name, i), ...) end
end
function methods.trace(network, what, i, ...)
  name_of_traced(what, "n:trace")
  return trace_at("n:trace", site_in(network, "trace", i), what, ...)
end

-- A node as a table of its functions of the shell; `me.routing()` or `me:routing()`.
local function node_table(me, call)
  for name, f in next, at do
    me[name] = sandbox.published(function(...)
      local first = 1
      if rawequal((...), me) then first = 2 end
      return call(name, f, select(first, ...))
    end)
    manual.know(me[name], name, functions.kinds[name])
  end
  for _, name in ipairs(functions.traceable) do traced[me[name]] = name end
  me.id = me.node().id
  return setmetatable(me, shapes.simnode)
end

-- `n:node(i)`: node i of a network.
function methods.node(network, i)
  return node_table({ number = i }, function(name, f, ...)
    -- Through the methods, whose calls a lesson sees.
    if name == "trace" then return methods.trace(network, (...), i, select(2, ...)) end
    if name == "node" then return f(site_in(network, name, i), ...) end
    return methods[name](network, i, ...)
  end)
end

-- Nodes of this user in other processes: `node(8017).tree()` or `on(8017, tree)`.
local function there(caller, which) return settle(nil, native.there(caller, which)) end

local own_node = env.node
function env.node(which)
  if which ~= nil then
    local site = there("node", which)
    local name = type(which) == "table" and which.address .. ":" .. which.port or which
    return node_table({ number = name }, function(_, f, ...) return f(site, ...) end)
  end
  if own_node then return own_node() end
  error("node: there is no node here; node(8001) is the one on that port, and a simulated network has some: n = net{nodes = 100}")
end

local asking = {}
function env.on(which, what, ...)
  local name = what ~= nil and (asking[what] or at[what] and what)
  if not name then
    error("on: expected a function that asks a node, as in on(8001, tree), got " .. pretty.value(what))
  end
  return at[name]((there("on", which)), ...)
end

function env.net(settings)
  local network = setmetatable({}, shapes.net)
  network_of[network] = settle(nil, native.functions.net(settings))
  return network
end

pretty.shape("net", function(_, out, pen, network)
  pretty.lines.net(settle(nil, native.methods["n:stats"](network_of[network])), out, pen)
end, shapes.net)

-- Clusters of real nodes, with the functions that ask one. `c:findvalue(i, key)`, but `c:trace(findvalue, i, key)`.

local cluster_of = setmetatable({}, { __mode = "k" })
local cluster_methods = {}

local function native_of_cluster(cluster) return cluster_of[cluster] or cluster end

local function member(cluster, name, i)
  return settle(nil, native.site("c:" .. name, native_of_cluster(cluster), i))
end

for name, f in next, at do
  cluster_methods[name] = function(cluster, i, ...) return f(member(cluster, name, i), ...) end
end
function cluster_methods.trace(cluster, what, i, ...)
  name_of_traced(what, "c:trace")
  return trace_at("c:trace", member(cluster, "trace", i), what, ...)
end

function cluster_methods.kill(cluster, i)
  return settle(nil, cluster_natives["c:kill"](native_of_cluster(cluster), i))
end

function cluster_methods.start(cluster, i)
  return settle(nil, cluster_natives["c:start"](native_of_cluster(cluster), i))
end

local function members_of(cluster)
  local members = settle(nil, cluster_natives["c:members"](native_of_cluster(cluster)))
  return setmetatable(members, shapes.cluster)
end

-- Each node's word about itself; for killed nodes, where they were.
function cluster_methods.status(cluster)
  local members = members_of(cluster)
  for i, member in ipairs(members) do
    local ok, node = pcall(cluster_methods.node, cluster, i)
    member.alive = ok
    if ok then
      member.id, member.contacts, member.estimate = node.id, node.contacts, node.estimate
      member.values = node.stored.values
    end
  end
  return members
end

function cluster_methods.stop(cluster)
  for i = 1, #members_of(cluster) do cluster_methods.kill(cluster, i) end
end

local raw_cluster = native.functions.cluster
local kept = {} -- a cluster lives until it is stopped, or the shell ends
local nodes = pretty.shape("nodes", function(_, out, pen, cluster)
  pretty.lines.cluster(members_of(cluster), out, pen)
end)
nodes.__index = cluster_methods
function env.cluster(count, keep)
  local cluster = setmetatable({}, nodes)
  cluster_of[cluster] = settle(nil, raw_cluster(count, keep))
  kept[#kept + 1] = cluster
  return cluster
end

-- Turns values that stand for something else into plain tables, for JSON.
local data_of = {
  [shapes.net] = function(network) return settle(nil, native.methods["n:stats"](network_of[network])) end,
  [shapes.simnode] = function(node) return { number = rawget(node, "number"), id = rawget(node, "id") } end,
  [nodes] = members_of,
}
local function data(t)
  local make = data_of[getmetatable(t)]
  if make then return make(t) end
end

return {
  methods = methods, cluster_methods = cluster_methods, network_of = network_of, asking = asking, data = data,
}
