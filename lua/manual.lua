-- help(): lists the functions, and explains a function, a method or a value.
--
-- Handed in: `native`, `pretty` (pretty.lua), the entries of functions (help.lua) and of methods (methods.lua).
-- Handed back: `entry_of`, all entries by name; `know(f, name, kind)`, which says that the function `f` has the entry
-- `name` and returns results of that kind, and `known`, what was said; `line(f)`, a function as a result; and
-- `help(env, topic, resolve)`, where `resolve` finds what a path leads to, as complete.lua does.

local native, pretty, help, methods = ...
local error, type, ipairs, next, tostring = error, type, ipairs, next, tostring
local setmetatable, getmetatable = setmetatable, getmetatable
local concat, insert = table.concat, table.insert
local format, gsub, gmatch, match, find = string.format, string.gsub, string.gmatch, string.match, string.find
local len, min = utf8.len, math.min

local entry_of = {}
for _, entries in ipairs { help, methods } do
  for _, entry in ipairs(entries) do entry_of[entry.name] = entry end
end

-- Functions of the shell and other callable values, with the names of their entries and the kinds of their results.
local known = setmetatable({}, { __mode = "k" })

local function know(f, name, kind) known[f] = { entry = entry_of[name], kind = kind } end

-- The entry that explains the results of a kind, if it does not have the same name.
local entry_of_kind = {
  stored = "add", socket = "getsocket", simnode = "n:node", nodes = "cluster", stats = "n:stats", memory = "gc", task = "spawn",
  contact = "contacts", known = "contacts", packet = "packets", cluster = "c:status",
}
local kind_of_shape = {}
for name, shape in next, pretty.shapes do kind_of_shape[shape] = name end

local function kind_of(v) return type(v) == "table" and kind_of_shape[getmetatable(v)] or nil end

local function signature(entry) return entry.name .. "(" .. entry.args .. ")" end

-- People read help, they do not scan it: its lines are no longer than those of a page.
local function width() return min(pretty.pen().width, 80) end

local function line_of(entry, first)
  local start = (first or "") .. signature(entry)
  local line = format("%-29s %s", start, entry.summary)
  return len(line) <= width() and line or start .. "\n    " .. entry.summary
end

-- A function of the shell as a result.
local function line(f)
  local entry = type(f) == "function" and known[f] and known[f].entry
  return entry and format("%s: %s\n?%s tells more", signature(entry), entry.summary, entry.name)
end

-- Fills lines with sentences; indented lines stay as they are.
local function set(text)
  local out, sentences = {}, {}
  local function flush()
    if sentences[1] then pretty.put_text(out, concat(sentences, " "), width()) end
    sentences = {}
  end
  for line in gmatch(text, "[^\n]+") do
    if find(line, "^ ") then
      flush()
      insert(out, line)
    else
      insert(sentences, line)
    end
  end
  flush()
  return concat(out, "\n")
end

local function overview()
  local texts = {}
  for i, entry in ipairs(help) do texts[i] = line_of(entry) end
  insert(texts, set(help.more))
  return concat(texts, "\n")
end

-- The methods whose names begin with `owner`, one in each line.
local function list_of_methods(owner)
  local texts = {}
  for _, entry in ipairs(methods) do
    if find(entry.name, owner, 1, true) == 1 then insert(texts, line_of(entry, "  ")) end
  end
  return concat(texts, "\n")
end

local function explained(env, entry)
  local out = { set(signature(entry) .. ": " .. entry.summary), set(entry.text) }
  if entry.methods then insert(out, list_of_methods(entry.methods)) end
  -- The values that the running node has.
  if entry.name == "settings" and native.has_node then insert(out, (tostring(env.settings()))) end
  insert(out, "Example:\n  " .. gsub(entry.example, "\n", "\n  "))
  return concat(out, "\n")
end

local function entry_of_value(v)
  if known[v] then return known[v].entry end
  local kind = kind_of(v)
  return kind and entry_of[entry_of_kind[kind] or kind]
end

local function entry_of_text(text, resolve)
  text = gsub(text, "^%s*(.-)%s*$", "%1")
  text = match(text, "^(.-)%(%)$") or text
  local entry = entry_of[text] or entry_of[gsub(text, "%.", ":")]
  if entry then return entry end
  local found = resolve(text)
  if not found then return nil end
  if found.entry then return found.entry end
  if found.kind then return entry_of[entry_of_kind[found.kind] or found.kind] end
  return entry_of_value(found.value)
end

local function manual(env, topic, resolve)
  if topic == nil then return setmetatable({ text = overview() }, pretty.shapes.help) end
  local entry = type(topic) == "string" and entry_of_text(topic, resolve) or entry_of_value(topic)
  if not entry then
    local names = {}
    for name in next, entry_of do insert(names, name) end
    local near = type(topic) == "string" and native.did_you_mean(topic, names) or ""
    error("help: expected one of the names that help() lists, got " .. pretty.value(topic) .. near)
  end
  return setmetatable({ text = explained(env, entry) }, pretty.shapes.help)
end

return { entry_of = entry_of, know = know, known = known, line = line, help = manual }
