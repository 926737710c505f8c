-- Lua as programs have it: the safe part of the standard library, and errors that name the user's
-- lines.
--
-- Handed in: `native`, the functions that Rust provides, and `pretty` (pretty.lua). Handed back: `env`, the
-- environment; `publish(functions)` and `published(f)`, through which functions of ours are handed to programs;
-- `settle(shape, ...)`, which makes results and errors of Rust's answers; `run(f, ...)`, which runs a program;
-- `library(from)`, a copy of a table of functions; `gsub`, that of Lua; and `set_string_methods(methods)`. The
-- prelude adds `known_names(is_global)`, which lists the names that a misspelt one may mean.

local native, pretty = ...
local interrupted, located = native.interrupted, native.located

local error, type, tostring, next, ipairs, select = error, type, tostring, next, ipairs, select
local rawget, rawequal = rawget, rawequal
local setmetatable, getmetatable = setmetatable, getmetatable
local raw_pcall, raw_xpcall, raw_load = pcall, xpcall, load -- by these names Rust knows pcall (HANDED_TO)
local shielded = xpcall
local raw_move = table.move
local find, match, raw_rep = string.find, string.match, string.rep
local create, raw_resume, raw_close = coroutine.create, coroutine.resume, coroutine.close
local yield, isyieldable, status = coroutine.yield, coroutine.isyieldable, coroutine.status

local env = {}
env._G = env
local sandbox = { env = env }

-- Errors. An error that our files raise, or Lua in them, names the user's line and never one of ours: every function
-- handed to programs goes through `published`, which puts the caller's place instead of its own. So `error(message)`
-- without a level is right everywhere in there.

-- The standard library, without the functions that reach files, processes, other Lua states'
-- bytecode or the inside of the interpreter.

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

-- Ctrl-C: once it has struck, nothing catches it. A coroutine that is suspended here is dropped.
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

-- The error that is on its way, and the user's lines that led to it: once it has passed one of our functions, the
-- lines inside a callback are lost.
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

-- A message handler that is called for Ctrl-C runs inside the hook, which nothing interrupts.
function env.xpcall(f, handler, ...)
  local function guarded(problem)
    if interrupted() then return problem end
    return handler(problem)
  end
  return unless_interrupted(forget(raw_xpcall(f, guarded, ...)))
end

-- Library functions may take long where Ctrl-C cannot reach: after slow ones we look for it at
-- once, and those that could go on for hours over nothing are kept from it.

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

-- A coroutine of the user suspends itself, which has a mark of its own; or it waits for the network, with the mark
-- of the engine; or its time is over, with no mark. In the last two cases all coroutines around it are suspended
-- too, and go on when it does.
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

-- An error if `published` would nest too deep: coroutines in coroutines are calls of C in calls of C.
local function fail(message) error(located("(kademlua sandbox):0: " .. message), 0) end

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

-- Runs a program, or a function of one: its errors come out as the text that the user reads.

local function suggestion(text)
  local kind, name = match(text, "a nil value %((%a+) '([^']*)'%)")
  if not kind or kind == "local" or kind == "upvalue" then return "" end
  return native.did_you_mean(name, sandbox.known_names(kind == "global"))
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

-- A function of Rust answers `true` and its results, or `false` and what is wrong, which becomes an error at the line
-- of the caller.
local function settle(shape, ok, ...)
  local result = ...
  if not ok then error(result) end
  if shape and type(result) == "table" then setmetatable(result, shape) end
  return ...
end

-- Which functions strings have as methods.
function sandbox.set_string_methods(functions) string_metatable.__index = functions end

sandbox.published, sandbox.publish, sandbox.library = published, publish, library
sandbox.settle, sandbox.run, sandbox.gsub = settle, run, raw_gsub
return sandbox
