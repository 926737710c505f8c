-- What may stand at the cursor: names, fields of results, settings, contacts, keys; and the arguments of the
-- function whose call is being typed.
--
-- It reads tables raw and calls none of the user's code. It knows by the name what a call would return: the functions
-- of the shell return results of known kinds (`kinds`); about other functions nothing is known.
--
-- Handed in: `native`, `env`, `manual` (manual.lua), `methods_of` (by kind, the functions that its values have as
-- methods) and `sources`, functions for what is currently known: `contacts()`, `keys()`. Handed back: `find(text)`,
-- what a path leads to; `names(request)` and `hint(callee)`, for the editor. A path is a list of steps as
-- src/shell/cursor.rs makes them: `{"name", x}`, `{"field", x}`, `{"index", x}`, `{"call"}`, `{"string"}`.

local native, env, manual, methods_of, sources = ...
local type, next, ipairs, rawget, getmetatable, tostring = type, next, ipairs, rawget, getmetatable, tostring
local find, sub, gmatch, match, format = string.find, string.sub, string.gmatch, string.match, string.format
local sort, insert = table.sort, table.insert
local string, tointeger = string, math.tointeger

-- The fields of results by kind; `=kind` is that of the field, `*` stands for a list.
local kinds = {
  contact = "address port id",
  known = "address port id rtt seen stale failures",
  hit = "value who=contact hops ms",
  query = "who=contact introduced_by=contact hop round path sent ms outcome bits bits_before bits_after contacts new values answers "
    .. "attempts more bytes_sent bytes_received",
  delivery = "who=contact sent ms tries answers outcome reason bytes_sent bytes_received",
  refusal = "who=contact reason",
  findvalue = "values=hit* more nodes=contact* call target cause queries=query* rounds hops messages bytes_sent bytes_received ms ended "
    .. "max_nodes max_entries",
  hop = "id micros",
  attempt = "skip to=contact sent ms is_answered bytes_sent bytes_received hops=hop*",
  route = "values located=contact held_at=contact found key kind by attempts=attempt* fallback=trace hops messages ms",
  findnode = "nodes=contact* call target cause queries=query* rounds hops messages bytes_sent bytes_received ms ended",
  stored = "stored=contact* refused=refusal* silent=contact* kept_here nodes=contact* call target key cause queries=query* "
    .. "deliveries=delivery* rounds hops messages bytes_sent bytes_received ms ended public subnets few_subnets",
  trace = "nodes=contact* values=hit* more call target key cause queries=query* deliveries=delivery* rounds hops messages bytes_sent "
    .. "bytes_received ms ended stored=contact* refused=refusal* silent=contact* kept_here public subnets few_subnets "
    .. "max_nodes max_entries",
  lookup = "ago max_nodes max_entries key deliveries=delivery* values=hit* more nodes=contact* call target cause queries=query* rounds hops messages bytes_sent bytes_received ms ended",
  lookups = "*lookup",
  ping = "who=contact ms",
  socket = "address port who=contact ms",
  bootstrap = "answered silent=contact*",
  contacts = "*known",
  bucket = "contacts=known* first idle is_last last prefix prefix_bits replacements=known* room",
  routing = "id k buckets=bucket*",
  near = "who=known bits distance",
  tree = "id k buckets=bucket* key bucket nearest=near*",
  place = "id at",
  ring = "id at known=place*",
  sample = "target nodes distances",
  estimate = "nodes error counted from contacts samples=sample*",
  counters = "bytes_in bytes_out datagrams_in datagrams_out dropped handed_over limited refused requests routes=routes stored timeouts",
  routes = "entered forwarded relayed answered dropped_nearer dropped_address dropped_misplaced dropped_ticket dropped_busy",
  amounts = "keys values bytes",
  state = "folder written problem",
  node = "id address port uptime estimate contacts stored=amounts lookups counters=counters state=state",
  setting = "name value default unit takes meaning source",
  settings = "*setting",
  packet = "time direction peer=contact kind rpc call size args results ms error bytes",
  packets = "*packet",
  untap = "ended lost",
  capture = "file packets bytes running lost",
  xdp = "attached interface mode answering heartbeat contacts cached=cached share ns answered forwarded passed dropped strangers reason",
  cached = "keys bytes hits misses",
  task = "task kind",
  memory = "lua max process",
  stats = "alive nodes seed time datagrams bytes loss count success hops messages ms",
  explain = "a b xor bits bucket number share",
  bin = "from to count",
  hist = "bins=bin* count least most median step whole",
  plot = "values least most",
  bar = "label value",
  bars = "bars=bar*",
  member = "port process alive id contacts estimate values",
  cluster = "*member",
  simnode = "number id",
  help = "text",
}

local fields_of = {} -- by kind: the kinds of its fields, or true
local element_of = {}
for kind, text in next, kinds do
  fields_of[kind], element_of[kind] = {}, match(text, "^%*(.+)$")
  for field, of, list in gmatch(text, "([%w_]+)=?(%w*)(%*?)") do
    if not element_of[kind] then fields_of[kind][field] = of ~= "" and of .. list or true end
  end
end

local function kind_at(kind)
  if type(kind) ~= "string" then return nil end
  return { kind = kind, of = match(kind, "^(.+)%*$") or element_of[kind] }
end

-- The raw field of a value, or the one that its metatable adds without calling anything.
local function field_of_value(v, name)
  if type(v) == "string" then v = string end
  for _ = 1, 8 do
    if type(v) ~= "table" then return nil end
    local field = rawget(v, name)
    if field ~= nil then return { value = field } end
    local metatable = getmetatable(v)
    v = type(metatable) == "table" and rawget(metatable, "__index") or nil
  end
end

local function field(at, name)
  if at.value ~= nil then return field_of_value(at.value, name) end
  local method = methods_of[at.kind] and methods_of[at.kind][name]
  if method then return { value = method } end
  return fields_of[at.kind] and kind_at(fields_of[at.kind][name])
end

local function index(at, key)
  if at.value ~= nil then
    if type(at.value) ~= "table" then return nil end
    local item = rawget(at.value, key ~= nil and (tointeger(key) or key) or 1)
    return item ~= nil and { value = item } or nil
  end
  if type(key) == "string" and not tointeger(key) then return field(at, key) end
  return at.of and kind_at(at.of)
end

local function call(at)
  local told = at.value ~= nil and manual.known[at.value]
  return told and told.kind and kind_at(told.kind) or nil
end

local function follow(steps)
  local at
  for i, step in ipairs(steps) do
    local what, name = step[1], step[2]
    if what == "name" then
      at = i == 1 and { value = env }
      at = at and field(at, name)
    elseif what == "string" then
      at = { value = "" }
    elseif what == "field" then
      at = field(at, name)
    elseif what == "index" then
      at = index(at, name)
    else
      at = call(at)
    end
    if not at then return nil end
  end
  return at
end

-- What a text leads to: "n:node(3).tree".
local function find_path(text)
  local steps = native.steps(text)
  return steps and follow(steps)
end

local function is_name(key) return type(key) == "string" and find(key, "^[%a_][%w_]*$") end

-- The names that may follow.
local function fields_at(at)
  local found = {}
  if at.value == nil then
    for _, names in next, { methods_of[at.kind] or {}, fields_of[at.kind] or {} } do
      for name in next, names do found[name] = true end
    end
    return found
  end
  local v = type(at.value) == "string" and string or at.value
  for _ = 1, 8 do
    if type(v) ~= "table" then break end
    for key in next, v do
      if is_name(key) then found[key] = true end
    end
    local metatable = getmetatable(v)
    v = type(metatable) == "table" and rawget(metatable, "__index") or nil
  end
  return found
end

local function entry_of(callee)
  local at = #callee > 0 and follow(callee)
  local told = at and at.value ~= nil and manual.known[at.value]
  return told and told.entry
end

-- The name of an argument: "maxnodes" of "maxnodes=3"; the last one may go on.
local function argument_of(entry, number)
  local names, last = {}, nil
  for argument in gmatch(entry.args, "[^, ]+") do insert(names, match(argument, "^[%w_.]+")) end
  last = names[#names]
  if last == "..." and number >= #names then return names[#names - 1] end
  return names[number]
end

local function quoted(text) return '"' .. text .. '"' end

-- The values that an argument may have, as they would be typed.
local function offers(entry, number)
  local name, list = argument_of(entry, number), {}
  if not name then return list end
  for _, choice in ipairs(entry.choices and entry.choices[name] or {}) do insert(list, quoted(choice)) end
  if name == "contact" then
    for _, contact in ipairs(sources.contacts()) do
      local is_near = contact.address == "127.0.0.1"
      local address = find(contact.address, ":", 1, true) and "[" .. contact.address .. "]" or contact.address
      insert(list, is_near and tostring(contact.port) or quoted(format("%s:%d", address, contact.port)))
    end
  elseif name == "key" or name == "id" then
    for _, key in ipairs(sources.keys()) do insert(list, key) end
    if name == "id" then
      for _, contact in ipairs(sources.contacts()) do insert(list, quoted(contact.id)) end
    end
  elseif name == "name" and entry.name == "help" then
    for topic in next, manual.entry_of do insert(list, quoted(topic)) end
  end
  return list
end

local function put_matching(list, prefix, into)
  for _, text in ipairs(list) do
    if sub(text, 1, #prefix) == prefix then into[text] = true end
  end
end

local function setting_names(entry, within)
  local given, list = {}, {}
  for _, key in ipairs(within.given) do given[key] = true end
  for _, name in ipairs(entry.settings) do
    if not given[name] then insert(list, name .. " = ") end
  end
  return list
end

-- In a table of settings after `name =`.
local function values_of_setting(entry, name)
  local list = {}
  if name == "peer" then return offers({ args = "contact" }, 1) end
  for _, choice in ipairs(entry.choices and entry.choices[name] or {}) do insert(list, quoted(choice)) end
  return list
end

local function offers_within(within)
  local entry = entry_of(within.callee)
  if not entry then return {} end
  if within.is_table and entry.settings then
    return within.key and values_of_setting(entry, within.key) or setting_names(entry, within)
  end
  return offers(entry, within.argument)
end

local function wants_file(within)
  local entry = within and entry_of(within.callee)
  return entry and argument_of(entry, within.argument) == "file"
end

-- The texts that may stand in place of `prefix`, sorted; and whether a file is wanted there. `request` has `path`, the
-- steps before it, `prefix`, `within`, the call around it with `callee`, `argument`, `is_table`, `key` and `given`, and
-- `quote`, if the prefix is in a string.
local function names(request)
  local found, list, within = {}, {}, request.within
  if request.quote then
    if wants_file(within) then return list, true end
    -- In other quotes it is the same string.
    put_matching(within and offers_within(within) or {}, '"' .. request.prefix, found)
    for text in next, found do
      if find(text, '^"') then insert(list, (sub(text, 2, -2))) end
    end
  elseif #request.path > 0 then
    local at = follow(request.path)
    for name in next, at and fields_at(at) or {} do
      if sub(name, 1, #request.prefix) == request.prefix then insert(list, name) end
    end
  else
    local offered = within and offers_within(within) or {}
    put_matching(offered, request.prefix, found)
    -- If the call says what is wanted, only that is offered until the user types something else.
    if next(found) == nil then
      for name in next, fields_at { value = env } do put_matching({ name }, request.prefix, found) end
    end
    for text in next, found do insert(list, text) end
  end
  sort(list)
  return list, false
end

-- The arguments of the called function, and the settings of its table.
local function hint(callee)
  local entry = entry_of(callee)
  if not entry then return nil end
  return entry.args, entry.settings or {}
end

return { find = find_path, names = names, hint = hint, kinds = kinds }
