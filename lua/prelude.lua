-- The environment in which a user's programs run: what of the standard library is safe, and the
-- functions of the shell.
--
-- Handed in: `native`, the functions that Rust provides, `pretty` (pretty.lua), `draw`, what the files in
-- draw/ hand back, `help` (help.lua), `manual` (manual.lua), `make_complete` (complete.lua as a function) and
-- `make_lesson` (lesson.lua as one). Handed back: the environment and what the shell itself needs of it. Nothing here reads a name of the environment after
-- it is built, so that programs may change it as they like.

local native, pretty, draw, help, manual, make_complete, make_lesson = ...
local interrupted, escape, located = native.interrupted, native.escape, native.located
local shapes = pretty.shapes

local error, type, tostring, next, ipairs, select = error, type, tostring, next, ipairs, select
local rawget, rawset, rawequal = rawget, rawset, rawequal
local setmetatable, getmetatable = setmetatable, getmetatable
local raw_pcall, raw_xpcall, raw_load = pcall, xpcall, load -- by these names Rust knows pcall (HANDED_TO)
local shielded = xpcall
local concat, sort, pack, raw_move = table.concat, table.sort, table.pack, table.move
local insert, table_remove = table.insert, table.remove
local unpack = table.unpack
local find, match, format, gsub, raw_rep = string.find, string.match, string.format, string.gsub, string.rep
local byte, gmatch = string.byte, string.gmatch
local create, raw_resume, raw_close = coroutine.create, coroutine.resume, coroutine.close
local yield, isyieldable, status = coroutine.yield, coroutine.isyieldable, coroutine.status

local env = {}
env._G = env

-- Names of the environment whose functions need no more: they are published, or must not be.
local unpublished = { pcall = true, xpcall = true, setmetatable = true, load = true, collectgarbage = true }

-- Errors. What this file raises, and what Lua raises in it, names the user's line and never one of ours: all that is
-- handed to programs goes through `published`, which puts the place of the caller instead of the own one.
-- So `error(message)` with no level is right everywhere in here.

-- The standard library, without what reaches files, processes, other Lua states' bytecode or the
-- inside of the interpreter.

for _, name in ipairs {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen",
  "rawset", "select", "tonumber", "tostring", "type", "_VERSION",
} do
  env[name] = _G[name]
end

local function library(from)
  local copy = {}
  for name, member in next, from do copy[name] = member end
  return copy
end

env.table, env.math, env.utf8 = library(table), library(math), library(utf8)
env.coroutine = library(coroutine)
env.os = { time = os.time, clock = os.clock, date = os.date, difftime = os.difftime }

-- Strings find their methods in the library itself, so it is changed and not copied.
string.dump = nil
env.string = string
local string_metatable = getmetatable("")
string_metatable.__metatable = false

-- A finalizer runs where Ctrl-C cannot reach.
function env.setmetatable(t, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("setmetatable: __gc is not available; use a <close> variable")
  end
  return (setmetatable(t, metatable)) -- not as a tail call, whose errors have no place
end

-- Ctrl-C: once it struck, nothing catches it. A coroutine that is suspended here is dropped.
local function unless_interrupted(...)
  if interrupted() then
    if isyieldable() then yield() end
    error("interrupted", 0)
  end
  return ...
end

function env.load(chunk, name, _, ...)
  local where = env
  if select("#", ...) > 0 then where = ... end
  return unless_interrupted(raw_load(chunk, name, "t", where))
end

local function delivered(ok, ...)
  if ok then return unless_interrupted(...) end
  unless_interrupted()
  error((...), 0)
end

-- The error that is on its way, and the user's lines by which it came about: of those inside of a callback nothing
-- is left when it has passed one of our functions.
local seen, seen_trace

local function look_at(problem, passed_on)
  if not rawequal(problem, seen) then seen_trace = native.trace() end
  seen = passed_on
  return passed_on
end

local function forget(ok, ...)
  if not ok then seen, seen_trace = nil, nil end
  return ok, ...
end

local function located_unless_interrupted(problem)
  if interrupted() then return problem end
  return look_at(problem, located(problem))
end

local function published(f)
  return function(...) return delivered(shielded(f, located_unless_interrupted, ...)) end
end

local function publish(functions)
  for name, f in next, functions do
    if type(f) == "function" then functions[name] = published(f) end
  end
end

function env.pcall(f, ...) return unless_interrupted(forget(raw_pcall(f, ...))) end

-- A message handler that is called for Ctrl-C runs inside of the hook, which nothing interrupts.
function env.xpcall(f, handler, ...)
  local function guarded(problem)
    if interrupted() then return problem end
    return handler(problem)
  end
  return unless_interrupted(forget(raw_xpcall(f, guarded, ...)))
end

-- Library functions may take long where Ctrl-C cannot reach: after those that do it is looked for
-- at once, and those that could go on for hours over nothing are kept from it.

function string.rep(s, n, separator)
  if s == "" and (separator == nil or separator == "") then return "" end
  return unless_interrupted(raw_rep(s, n, separator))
end

local raw_gsub = string.gsub
function string.gsub(...) return unless_interrupted(raw_gsub(...)) end

local raw_concat, raw_sort = table.concat, table.sort
function env.table.concat(...) return unless_interrupted(raw_concat(...)) end

local function less(a, b) return a < b end
function env.table.sort(t, before) return unless_interrupted(raw_sort(t, before or less)) end

function env.table.move(from, first, last, ...)
  if type(first) == "number" and type(last) == "number" and last - first >= 1 << 24 then
    error("table.move: too many elements")
  end
  return unless_interrupted(raw_move(from, first, last, ...))
end

-- A coroutine of the user's is suspended by itself, which has a mark of its own; or because it waits for the
-- network, with the mark of the engine; or because its time is over, with none. In the last two cases all coroutines
-- around it are suspended too, and go on when it does.
local pending, own = native.pending, {}

local function without_mark(ok, _, ...) return ok, ... end

local function settled(co, ...)
  local ok, mark = ...
  if rawequal(mark, own) then return unless_interrupted(without_mark(...)) end
  if not ok or status(co) ~= "suspended" then return unless_interrupted(...) end
  if rawequal(mark, pending) then return settled(co, raw_resume(co, yield(pending))) end
  if isyieldable() then yield() end
  return settled(co, raw_resume(co))
end

local function resume(co, ...) return settled(co, raw_resume(co, ...)) end

-- An error where `published` would nest too deep: coroutines in coroutines are calls of C in calls of C.
local function fail(message) error(located("(kademlua prelude):0: " .. message), 0) end

local function unwrapped(co, ok, ...)
  if ok then return ... end
  raw_close(co)
  if type((...)) == "string" and find((...), "^cannot resume") then fail((...)) end
  error((...), 0)
end

function env.coroutine.resume(co, ...)
  if type(co) ~= "thread" then fail("resume: expected a coroutine, got " .. native.describe(co)) end
  return resume(co, ...)
end
function env.coroutine.yield(...) return yield(own, ...) end
env.coroutine.close = published(function(co) return unless_interrupted(raw_close(co)) end)
function env.coroutine.wrap(f)
  if type(f) ~= "function" then fail("wrap: expected a function, got " .. native.describe(f)) end
  local co = create(f)
  return function(...) return unwrapped(co, resume(co, ...)) end
end

local function collect_garbage(what)
  if what == nil or what == "collect" or what == "step" then
    return native.collect(what or "collect")
  end
  if what == "count" then return native.lua_kilobytes() end
  error('collectgarbage: expected "collect", "step" or "count"; see help(gc)')
end
env.collectgarbage = collect_garbage

string.rep, string.gsub = published(string.rep), published(string.gsub)
for _, name in ipairs { "concat", "sort", "move" } do env.table[name] = published(env.table[name]) end
for _, name in ipairs { "setmetatable", "load", "collectgarbage" } do env[name] = published(env[name]) end

-- How a program, or a function of one, is run: an error of it comes out as the text that is told.

local known_names -- filled below, as a list is asked for

local function suggestion(text)
  local kind, name = match(text, "a nil value %((%a+) '([^']*)'%)")
  if not kind or kind == "local" or kind == "upvalue" then return "" end
  return native.did_you_mean(name, known_names(kind == "global"))
end

local function told(problem, trace)
  local text = native.message(problem)
  if text then
    text = text .. suggestion(text)
  else
    local metatable = getmetatable(problem)
    local own = type(metatable) == "table" and rawget(metatable, "__tostring") ~= nil
    local ok, shown = raw_pcall(own and tostring or pretty.value, problem)
    text = ok and shown or "an error value that cannot be shown"
  end
  for _, line in ipairs(trace or {}) do text = text .. "\n  " .. line end
  return text
end

local function witness(problem)
  if interrupted() then return problem end
  return look_at(problem, problem)
end

local function ended(ok, ...)
  if ok then return unless_interrupted(...) end
  unless_interrupted()
  local trace = rawequal((...), seen) and seen_trace
  seen, seen_trace = nil, nil
  error(told((...), trace), 0)
end

local function run(f, ...) return ended(raw_xpcall(f, witness, ...)) end

-- The functions of the shell: each answers `true` and its results, or `false` and what is wrong,
-- which becomes an error at the line of the caller.

local function settle(shape, ok, ...)
  local result = ...
  if not ok then error(result) end
  if shape and type(result) == "table" then setmetatable(result, shape) end
  return ...
end

local shape_of = {
  add = "stored", put = "stored", findvalue = "findvalue", findnode = "findnode", ping = "ping",
  getsocket = "socket", bootstrap = "bootstrap", contacts = "contacts", node = "node", info = "node",
  estimate = "estimate", lookups = "lookups", settings = "settings", xdp = "xdp", gc = "memory", packets = "packets",
  untap = "untap", tasks = "tasks", capture = "capture", spawn = "task", every = "task", after = "task", rpc = "task",
  tap = "task", routing = "routing", tree = "tree", ring = "ring",
}

-- What else they return, for completion.
local kind_of_result = setmetatable({
  trace = "trace", net = "net", cluster = "nodes", hist = "hist", plot = "plot", bars = "bars", explain = "explain", help = "help",
}, { __index = shape_of })
-- Those of which the prelude makes others are for nobody else.
local files = {}
for _, name in ipairs {
  "file_kind", "file_read", "file_write", "to_csv", "from_csv", "to_json", "from_json",
} do
  files[name], native.functions[name] = native.functions[name], nil
end

for name, f in next, native.functions do
  local shape = shapes[shape_of[name]]
  env[name] = function(...) return settle(shape, f(...)) end
end

-- The functions that ask a node. Each is written once; its first argument is a site, which says what node is
-- asked: one that Rust has made, or nothing for the shell's own node.

local at = {}
for name, f in next, native.asking do
  local shape = shapes[shape_of[name]]
  at[name] = function(site, ...) return settle(shape, f(site, ...)) end
end

-- For completion: the keys under which something was stored of late, as they would be typed, and the texts that
-- were hashed of late, which keys are made of.
local KEYS, TEXTS, TEXT_BYTES = 50, 1000, 60
local keys, text_of, texts = {}, {}, 0

local function note_key(key)
  local id = native.id_of(key)
  local text = text_of[id] and "sha1(" .. pretty.value(text_of[id]) .. ")" or '"' .. tostring(id) .. '"'
  for i, known in ipairs(keys) do
    if known == text then table_remove(keys, i) end
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

-- One of the drawings of what routing() answers.
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

-- `trace(findvalue, key)`: what a call returns, shown query by query.
local traceable = { "add", "put", "findvalue", "findnode" }
local traced = setmetatable({}, { __mode = "k" }) -- their names, and all functions that go by them

local function name_of_traced(what, caller)
  local name = what ~= nil and traced[what]
  if not name then
    error(caller .. ": expected add, put, findvalue or findnode, got " .. pretty.value(what))
  end
  return name
end

local function trace_at(caller, site, what, ...)
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

-- Simulated networks: `net` makes one, an object whose methods are Rust's, those of its nodes, and those made
-- here of them. What Rust holds of a network is kept apart from what a program sees.

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

-- A node as a table of the functions of the shell as it has them; `me.routing()` or `me:routing()`.
local function node_table(me, call)
  for name, f in next, at do
    me[name] = published(function(...)
      local first = 1
      if rawequal((...), me) then first = 2 end
      return call(name, f, select(first, ...))
    end)
    manual.know(me[name], name, kind_of_result[name])
  end
  for _, name in ipairs(traceable) do traced[me[name]] = name end
  me.id = me.node().id
  return setmetatable(me, shapes.simnode)
end

-- `n:node(i)`: node i of a network.
function methods.node(network, i)
  return node_table({ number = i }, function(name, f, ...)
    -- By the methods, whose calls a lesson sees.
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

local asking = {} -- the names of the functions that ask a node
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

function env.print(...)
  local texts = pack(...)
  for i = 1, texts.n do texts[i] = escape(tostring(texts[i]), true) end
  settle(nil, native.write(concat(texts, "\t", 1, texts.n) .. "\n"))
end

-- `pprint(v, {all = true})` shows all of a value.
local function wants_all(texts)
  local options = texts[texts.n]
  return texts.n > 1 and type(options) == "table" and rawequal(rawget(options, "all"), true) and next(options, next(options)) == nil
end

-- Values as text.
local function shown(whole, values)
  local pen, texts = pretty.pen(), {}
  for i = 1, values.n do texts[i] = manual.line(values[i]) or pretty.shown(values[i], pen, whole) end
  return values.n == 0 and "" or concat(texts, "\n") .. "\n"
end

local function show(...) return shown(false, pack(...)) end

function env.pprint(...)
  local texts = pack(...)
  local whole = wants_all(texts)
  if whole then texts.n = texts.n - 1 end
  settle(nil, native.write(shown(whole, texts)))
end

-- Through the user's pager, whole; without arguments the last result. Two words say whether results that are longer
-- than the screen go there by themselves.
local raw_pager = env.pager
function env.pager(...)
  local values = pack(...)
  if values.n == 0 then values = pack(rawget(env, "_")) end
  local word = values.n == 1 and values[1]
  if word == "auto" or word == "off" then return raw_pager(word == "auto") end
  raw_pager(shown(true, values))
end

-- What somebody typed, as the prompt takes it: a function, or nothing and what is wrong.
local function compiled(source)
  local chunk, more = native.compile(source, env)
  if not chunk then return nil, more end
  return more and function() return select(2, chunk()) end or chunk
end

-- What was typed last, or made of it in an editor, is edited and run.
local raw_edit = env.edit
local last_source, edited = "", nil
function env.edit(text)
  local source = raw_edit(text == nil and last_source or text)
  if not find(source, "%S") then return end
  edited = source
  settle(nil, native.write(escape(source, true) .. "\n"))
  local chunk, problem = compiled(source)
  if not chunk then error(problem, 0) end
  return chunk()
end

local find_path -- of complete.lua, which comes when all else is there
function env.help(topic) return manual.help(env, topic, find_path) end

-- Other programs: `require` and `dofile`.

local function loaded_from(source, file, where)
  local chunk, problem = raw_load(source, "@" .. file, "t", where)
  if not chunk then error(problem) end
  return chunk
end

local loaded = {}
function env.require(name)
  if loaded[name] ~= nil then return loaded[name] end
  local source, file = settle(nil, native.read_module(name))
  local chunk = loaded_from(source, file, env)
  loaded[name] = true
  local module = chunk(name, file)
  if module ~= nil then loaded[name] = module end
  return loaded[name]
end

function env.dofile(file) return loaded_from(settle(nil, files.file_read("dofile", file)), file, env)() end

-- Clusters of real nodes, with the functions that ask one. `c:findvalue(i, key)`, but `c:trace(findvalue, i, key)`.

local cluster_of = setmetatable({}, { __mode = "k" })
local cluster_methods = {}

-- Values in files.

-- What is nested deeper is read by no Lua; these bounds end what contains itself.
local PARTS, LEVELS = 1 << 20, 60

local function literal(v, left, level)
  left.parts = left.parts - 1
  if left.parts < 0 then error("save: a value of more than " .. PARTS .. " parts") end
  if type(v) == "string" then
    return '"' .. gsub(v, "[^%w ]", function(c) return format("\\%03d", byte(c)) end) .. '"'
  end
  if type(v) == "number" then return format("%q", v) end
  if type(v) == "boolean" or v == nil then return tostring(v) end
  if type(v) ~= "table" then
    error("save: expected strings, numbers, tables, true or false, got " .. native.describe(v))
  end
  if level == LEVELS then error("save: tables nest deeper than " .. LEVELS .. " levels") end
  local parts = {}
  for key, item in next, v do
    insert(parts, "[" .. literal(key, left, level + 1) .. "]=" .. literal(item, left, level + 1))
  end
  return "{" .. concat(parts, ",") .. "}"
end

local write_as = {
  json = function(value) return settle(nil, files.to_json(value)) end,
  csv = function(value) return settle(nil, files.to_csv(value)) end,
  lua = function(value) return "return " .. literal(value, { parts = PARTS }, 0) .. "\n" end,
  txt = function(value) return type(value) == "string" and value or pretty.value(value) .. "\n" end,
}

local read_as = {
  json = function(text) return settle(nil, files.from_json(text)) end,
  csv = function(text) return settle(nil, files.from_csv(text)) end,
  lua = function(text, file) return (loaded_from(text, file, {})()) end,
  txt = function(text) return text end,
}

function env.save(value, file, existing)
  local kind = settle(nil, files.file_kind("save", file))
  return settle(shapes.saved, files.file_write(file, existing, write_as[kind](value)))
end

function env.read(file)
  local kind = settle(nil, files.file_kind("read", file))
  return read_as[kind](settle(nil, files.file_read("read", file)), file)
end

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

-- What each node says of itself, of those that were killed where they were.
function cluster_methods.status(cluster)
  local members = members_of(cluster)
  for i, member in ipairs(members) do
    local ok, node = raw_pcall(cluster_methods.node, cluster, i)
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

-- What stands for something else, as plain tables: for JSON.
local data_of = {
  [shapes.net] = function(network) return settle(nil, native.methods["n:stats"](network_of[network])) end,
  [shapes.simnode] = function(node) return { number = rawget(node, "number"), id = rawget(node, "id") } end,
  [nodes] = members_of,
}
local function data(t)
  local make = data_of[getmetatable(t)]
  if make then return make(t) end
end

-- A network that only the checks of lessons hold: its methods are not to be reached, and so not to be changed.
local viewed = { __index = methods }
local inside = { net = env.net, compiled = compiled }
function inside.view(network)
  local view = setmetatable({}, viewed)
  network_of[view] = network_of[network]
  return view
end
function inside.same(a, b)
  return rawequal(network_of[a] or a, network_of[b] or b)
end

local lessons = make_lesson(native, env, pretty, inside)
env.lesson, env.hint = lessons.lesson, lessons.hint
for name, method in next, methods do methods[name] = lessons.witness(name, method, true) end
for _, name in ipairs { "net", "hist", "explain", "help" } do env[name] = lessons.witness(name, env[name]) end
publish(lessons.lesson)
lessons.shape.__call = published(lessons.call)
setmetatable(lessons.lesson, lessons.shape)

-- Without a node, what needs one says so.
for _, entry in ipairs(help) do
  local name = entry.name
  if env[name] == nil then
    env[name] = function()
      error(name .. ": there is no node here; a simulated network has some: n = net{nodes = 100}")
    end
  end
end

publish(methods)
publish(cluster_methods)
for name, f in next, env do
  -- What is Lua's own is called as it is, pcall and xpcall are above.
  if type(f) == "function" and not rawequal(f, _G[name]) and not unpublished[name] then env[name] = published(f) end
end

-- Programs may change what they reach, but never what is called in here.
shapes.net.__index = library(methods)

-- What the checks of lessons see is nobody else's, the methods of strings among it while they run.
inside.clean = library(env)
inside.clean._G = inside.clean
for name, member in next, inside.clean do
  if type(member) == "table" and name ~= "_G" and not rawequal(member, env.lesson) then inside.clean[name] = library(member) end
end

function inside.guard_strings(on) string_metatable.__index = on and inside.clean.string or string end

for _, name in ipairs(traceable) do
  traced[name], traced[env[name]], traced[methods[name]], traced[cluster_methods[name]] = name, name, name, name
end
for name in next, at do asking[env[name]] = name end

-- What the functions are for, and what they return.

for name, value in next, env do
  if manual.entry_of[name] then manual.know(value, name, kind_of_result[name]) end
end
for name, f in next, methods do
  local entry = manual.entry_of["n:" .. name] and "n:" .. name or name
  manual.know(f, entry, name == "node" and "simnode" or name == "stats" and name or kind_of_result[name])
end
for name, f in next, cluster_methods do
  local entry = manual.entry_of["c:" .. name] and "c:" .. name or name
  manual.know(f, entry, name == "status" and "cluster" or kind_of_result[name])
end
for name, f in next, lessons.lesson do
  if manual.entry_of["lesson." .. name] then manual.know(f, "lesson." .. name) end
end
local of_node = {}
for name in next, at do of_node[name] = env[name] end

local function contacts_known()
  if not native.has_node then return {} end
  local ok, list = native.asking.contacts()
  return ok and list or {}
end

local complete = make_complete(native, env, manual, { net = library(methods), nodes = cluster_methods, simnode = of_node }, {
  contacts = contacts_known,
  keys = function() return keys end,
})
find_path = complete.find

-- Words that are calls where they stand alone.
local words = {}
for _, name in ipairs { "help", "exit", "quit" } do
  if env[name] then words[env[name]] = true end
end
local function meant(...)
  if select("#", ...) == 1 and (...) ~= nil and words[(...)] then return (...)() end
  return ...
end

local function after(source, ...)
  last_source, edited = edited or source, nil
  return lessons.after(source, ...)
end

-- What a misspelt name may mean: a global, or a field of a result, which the help names between backquotes, or of a
-- library.
function known_names(is_global)
  local found, list = {}, {}
  local function put(t)
    for name in next, t do
      if type(name) == "string" then found[name] = true end
    end
  end
  if is_global then
    put(env)
  else
    for _, entry in next, manual.entry_of do
      for name in gmatch(entry.text, "`([%a_][%w_]*)`") do found[name] = true end
    end
    for _, t in ipairs { methods, cluster_methods, at, string, table, math, utf8, coroutine } do put(t) end
  end
  for name in next, found do list[#list + 1] = name end
  return list
end

return {
  env = env, run = run, data = data, show = show, meant = meant, names = complete.names, hint = complete.hint, after = after,
}
