-- The environment in which a user's programs run, put together: the safe part of Lua (sandbox.lua), the functions of
-- the shell (functions.lua, files.lua, networks.lua), the texts of values, the lessons, help and completion.
--
-- Handed in: `native`, the functions that Rust provides, the results of the files of these names (`pretty`,
-- `sandbox`, `functions`, `networks`, `help`, `manual`), and `make_complete` (complete.lua) and `make_lesson`
-- (lesson.lua) as functions. Handed back: the environment, and the parts that the shell itself needs. Nothing here
-- reads a name of the environment after it is built, so that programs may change it as they like.

local native, pretty, sandbox, functions, networks, help, manual, make_complete, make_lesson = ...
local env, settle, published, publish, library = sandbox.env, sandbox.settle, sandbox.published, sandbox.publish, sandbox.library
local at, traced, shapes = functions.at, functions.traced, pretty.shapes
local methods, cluster_methods, network_of = networks.methods, networks.cluster_methods, networks.network_of

local error, type, tostring, next, ipairs, select = error, type, tostring, next, ipairs, select
local rawget, rawequal, setmetatable = rawget, rawequal, setmetatable
local concat, pack, find, gmatch = table.concat, table.pack, string.find, string.gmatch
local escape = native.escape

-- Names of the environment whose functions are done: they are published, or must not be.
local unpublished = { pcall = true, xpcall = true, setmetatable = true, load = true, collectgarbage = true }

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

-- Shows values in full through the user's pager; without arguments the last result. Two words say whether results
-- that are longer than the screen go there by themselves.
local raw_pager = env.pager
function env.pager(...)
  local values = pack(...)
  if values.n == 0 then values = pack(rawget(env, "_")) end
  local word = values.n == 1 and values[1]
  if word == "auto" or word == "off" then return raw_pager(word == "auto") end
  raw_pager(shown(true, values))
end

-- Takes a typed chunk as the prompt does: returns a function, or nothing and the complaint.
local function compiled(source)
  local chunk, more = native.compile(source, env)
  if not chunk then return nil, more end
  return more and function() return select(2, chunk()) end or chunk
end

-- Edits the chunk that was typed or edited last, and runs it.
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

-- A network that only the checks of lessons hold: nobody can reach its methods, and so nobody can change them.
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

-- Without a node, functions that need one say so.
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
  -- Lua's own functions are called as they are; pcall and xpcall are above.
  if type(f) == "function" and not rawequal(f, _G[name]) and not unpublished[name] then env[name] = published(f) end
end

-- Programs may change what they can reach, but never what this file calls.
shapes.net.__index = library(methods)

-- The checks of lessons see an environment that nobody else has, including, while they run, the
-- methods of strings.
inside.clean = library(env)
inside.clean._G = inside.clean
for name, member in next, inside.clean do
  if type(member) == "table" and name ~= "_G" and not rawequal(member, env.lesson) then inside.clean[name] = library(member) end
end

function inside.guard_strings(on) sandbox.set_string_methods(on and inside.clean.string or string) end

for _, name in ipairs(functions.traceable) do
  traced[env[name]], traced[methods[name]], traced[cluster_methods[name]] = name, name, name
end
for name in next, at do networks.asking[env[name]] = name end

-- What the functions are for, and what they return.

for name, value in next, env do
  if manual.entry_of[name] then manual.know(value, name, functions.kinds[name]) end
end
for name, f in next, methods do
  local entry = manual.entry_of["n:" .. name] and "n:" .. name or name
  manual.know(f, entry, name == "node" and "simnode" or name == "stats" and name or functions.kinds[name])
end
for name, f in next, cluster_methods do
  local entry = manual.entry_of["c:" .. name] and "c:" .. name or name
  manual.know(f, entry, name == "status" and "cluster" or functions.kinds[name])
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
  keys = function() return functions.keys end,
})
find_path = complete.find

-- Words that are calls if they stand alone.
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

-- The names that a misspelt one may mean: a global, a field of a result, which the help has between backquotes, or
-- one of a library.
function sandbox.known_names(is_global)
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
  env = env, run = sandbox.run, data = networks.data, show = show, meant = meant, names = complete.names, hint = complete.hint, after = after,
}

