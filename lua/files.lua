-- Files: values that `save` writes and `read` reads back, and other programs, `dofile` and
-- `require`.
--
-- Handed in: `native`, `pretty` and `sandbox` (sandbox.lua), into whose environment the functions go.

local native, pretty, sandbox = ...
local env, settle, shapes = sandbox.env, sandbox.settle, pretty.shapes
local error, type, tostring, next, ipairs, load = error, type, tostring, next, ipairs, load
local concat, insert, format, gsub, byte = table.concat, table.insert, string.format, sandbox.gsub, string.byte

-- Nobody else uses these functions of Rust.
local files = {}
for _, name in ipairs {
  "file_kind", "file_read", "file_write", "to_csv", "from_csv", "to_json", "from_json",
} do
  files[name], native.functions[name] = native.functions[name], nil
end

local function loaded_from(source, file, where)
  local chunk, problem = load(source, "@" .. file, "t", where)
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

-- Values.

-- Lua reads nothing that nests deeper; these bounds stop at tables that contain themselves.
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
