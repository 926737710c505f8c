-- A dissector for Wireshark and tshark, 3.4 or newer: Kademlua v1, one RPC message in each UDP
-- datagram.
--
--   tshark -X lua_script:lua/wireshark/kademlua.lua -r node.pcap
--   wireshark -X lua_script:lua/wireshark/kademlua.lua node.pcap
--
-- or copied into the folder of personal Lua plugins (Help, About Wireshark, Folders). It finds the
-- protocol on any port by its first bytes; "Decode As" hands it the packets that it misses. Fields to
-- filter by are those below, such as `kademlua.rpc == "findnode"` or `kademlua.time > 0.1`.
--
-- Malformed parts are marked and never followed: strings end where the datagram does, and nesting,
-- the number of items and the length of texts are bounded.

local kademlua = Proto("kademlua", "Kademlua v1")

local HEADER = 30      -- version, from, rpc id, call
local LENGTH = 2
local DEPTH = 64       -- levels of lists and dictionaries that the nodes themselves accept
local ITEMS = 2000     -- shown of one payload
local SHOWN = 64       -- bytes of a string in the line of its item

local REQUEST, RESPONSE, NO_SUCH_RPC, FAILED, ROUTE, ROUTED = 1, 129, 130, 131, 4, 132
local calls = {
  [REQUEST] = "Request", [RESPONSE] = "Response", [NO_SUCH_RPC] = "No such RPC", [FAILED] = "RPC failed",
  [ROUTE] = "Route", [ROUTED] = "Route answer",
}
local kinds = { [0] = "locate", [1] = "findvalue", [2] = "store" }

local field = {
  version = ProtoField.uint8("kademlua.version", "Version"),
  from = ProtoField.bytes("kademlua.from", "From node", base.NONE),
  rpc_id = ProtoField.uint64("kademlua.rpc_id", "RPC id", base.HEX),
  call = ProtoField.uint8("kademlua.call", "Call", base.DEC, calls),
  length = ProtoField.uint16("kademlua.length", "Payload length"),
  payload = ProtoField.bytes("kademlua.payload", "Payload", base.NONE),
  padding = ProtoField.bytes("kademlua.padding", "Padding", base.NONE),
  rpc = ProtoField.string("kademlua.rpc", "RPC"),
  integer = ProtoField.string("kademlua.integer", "Integer"),
  bytes = ProtoField.bytes("kademlua.bytes", "String", base.NONE),
  list = ProtoField.none("kademlua.list", "List"),
  dictionary = ProtoField.none("kademlua.dictionary", "Dictionary"),
  request_in = ProtoField.framenum("kademlua.request_in", "Request in", base.NONE, frametype.REQUEST),
  response_in = ProtoField.framenum("kademlua.response_in", "Response in", base.NONE, frametype.RESPONSE),
  flags = ProtoField.uint8("kademlua.route.flags", "Flags", base.HEX),
  direct = ProtoField.bool("kademlua.route.direct", "Direct", 8, nil, 1),
  proved = ProtoField.bool("kademlua.route.proved", "Proved", 8, nil, 2),
  trace = ProtoField.bool("kademlua.route.trace", "Trace", 8, nil, 4),
  iterate = ProtoField.bool("kademlua.route.iterate", "Iterate", 8, nil, 8),
  hops = ProtoField.uint8("kademlua.route.hops", "Hops left"),
  skip = ProtoField.uint8("kademlua.route.skip", "Skip"),
  kind = ProtoField.uint8("kademlua.route.kind", "Kind", base.DEC, kinds),
  key = ProtoField.bytes("kademlua.route.key", "Key", base.NONE),
  answer_ip = ProtoField.ipv6("kademlua.route.answer_ip", "Answer to"),
  answer_port = ProtoField.uint16("kademlua.route.answer_port", "Answer port"),
  budget = ProtoField.uint16("kademlua.route.budget", "Budget"),
  client_ip = ProtoField.ipv6("kademlua.route.client_ip", "Client"),
  client_port = ProtoField.uint16("kademlua.route.client_port", "Client port"),
  stamp = ProtoField.uint16("kademlua.route.stamp", "Stamp"),
  seal = ProtoField.bytes("kademlua.route.seal", "Ticket or token", base.NONE),
  time = ProtoField.double("kademlua.time", "Time since the request in ms"),
}
local fields = {}
for _, it in pairs(field) do fields[#fields + 1] = it end
kademlua.fields = fields

local malformed = ProtoExpert.new("kademlua.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local cut_off = ProtoExpert.new("kademlua.not_shown", "Not all is shown", expert.group.PROTOCOL, expert.severity.NOTE)
kademlua.experts = { malformed, cut_off }

-- Bytes as text: control characters and bytes that are not ASCII become \xNN.
local function printable(text)
  return (text:gsub("[^ -~]", function(c) return string.format("\\x%02x", c:byte()) end))
end

local function shown(range)
  local len = range:len()
  local text = range:raw(0, math.min(len, SHOWN))
  if len == 20 and text:find("[^ -~]") then return tostring(range:bytes()):lower() end
  return '"' .. printable(text) .. (len > SHOWN and '"…' or '"')
end

-- Bencoding. A reader stands at `at` in `text`, the payload; `range(at, len)` is the same in the packet.

local Reader = {}
Reader.__index = Reader

local function fail(reader, tree, problem)
  reader.failed = problem
  tree:add_proto_expert_info(malformed, problem)
end

-- The string at the front: where its bytes begin, and how many they are.
local function string_at(text, at)
  local digits = text:match("^(%d+):", at)
  if not digits or #digits > 5 or (#digits > 1 and digits:sub(1, 1) == "0") then return nil end
  local first, len = at + #digits + 1, tonumber(digits)
  if first + len - 1 > #text then return nil end
  return first, len
end

local function integer_at(text, at)
  return text:match("^i(%-?%d+)e", at)
end

-- Adds the value that stands here to the tree, with `label` in front, and moves past it. For keys and
-- names it returns the bytes of a string.
function Reader:value(tree, label, depth)
  local at, text = self.at, self.text
  self.items = self.items + 1
  if self.items > ITEMS then
    self.failed, self.cut = "too many items", true
    tree:add_proto_expert_info(cut_off, "more items than are shown")
    return
  end
  local lead = text:sub(at, at)
  if lead == "i" then return self:integer(tree, label) end
  if lead == "l" or lead == "d" then return self:container(tree, label, depth, lead == "d") end
  local first, len = string_at(text, at)
  if not first then
    return fail(self, tree, at > #text and "the payload ends inside a value" or "no value at byte " .. (at - 1))
  end
  local whole = self.range(at, first + len - at)
  -- Wireshark does not show a field without bytes.
  local content = len > 0 and self.range(first, len) or nil
  local item = content and tree:add(field.bytes, content) or tree:add(whole, "")
  item:set_text(label .. (content and shown(content) or '""'))
  self.at = first + len
  return text:sub(first, first + len - 1)
end

function Reader:integer(tree, label)
  local digits = integer_at(self.text, self.at)
  if not digits then return fail(self, tree, "no integer at byte " .. (self.at - 1)) end
  local len = #digits + 2
  local short = #digits > SHOWN and digits:sub(1, SHOWN) .. "…" or digits
  tree:add(field.integer, self.range(self.at, len), short):set_text(label .. short)
  self.at = self.at + len
  return digits
end

function Reader:container(tree, label, depth, is_dictionary)
  if depth >= DEPTH then return fail(self, tree, "nested deeper than " .. DEPTH .. " levels") end
  local first = self.at
  local branch = tree:add(is_dictionary and field.dictionary or field.list, self.range(first, 1))
  self.at = first + 1
  local count = 0
  while self.text:sub(self.at, self.at) ~= "e" do
    if self.at > #self.text then fail(self, branch, "the payload ends inside a list or a dictionary") end
    if self.failed then break end
    count = count + 1
    if is_dictionary then
      self:entry(branch, depth)
    else
      self:value(branch, "[" .. count .. "] ", depth + 1)
    end
  end
  if not self.failed then self.at = self.at + 1 end
  branch:set_len(math.max(1, math.min(self.at, #self.text + 1) - first))
  branch:set_text(label .. (is_dictionary and "Dictionary" or "List") .. ", " .. count .. (count == 1 and " item" or " items"))
end

-- A key and its value.
function Reader:entry(tree, depth)
  local key = integer_at(self.text, self.at)
  if key then
    self.at = self.at + #key + 2
  else
    local first, len = string_at(self.text, self.at)
    if not first then return fail(self, tree, "no key at byte " .. (self.at - 1)) end
    key = len <= SHOWN and self.text:sub(first, first + len - 1) or self.text:sub(first, first + SHOWN - 1) .. "…"
    self.at = first + len
  end
  local value = self:value(tree, printable(key) .. ": ", depth + 1)
  -- A request is `{name: …, args: …}`.
  if depth == 0 and key == "name" then self.name = value end
end

-- Requests and their answers. Filled in the first pass over the packets, in their order; an entry is
-- found by the packet's number in later ones.

local open, of_frame = {}, {}
function kademlua.init() open, of_frame = {}, {} end

local function ends(pinfo, is_request)
  local source = tostring(pinfo.src) .. " " .. pinfo.src_port
  local destination = tostring(pinfo.dst) .. " " .. pinfo.dst_port
  return is_request and source .. " " .. destination or destination .. " " .. source
end

local function exchange_of(pinfo, call, rpc_id, name)
  if pinfo.visited then return of_frame[pinfo.number] end
  local key = ends(pinfo, call == REQUEST) .. " " .. rpc_id
  if call == REQUEST then
    open[key] = { request = pinfo.number, at = pinfo.rel_ts, name = name }
  end
  local exchange = open[key]
  if exchange and call ~= REQUEST and not exchange.response then
    exchange.response = pinfo.number
    exchange.took = pinfo.rel_ts - exchange.at
  end
  of_frame[pinfo.number] = exchange
  return exchange
end

local function add_exchange(tree, exchange, pinfo, call)
  if not exchange then return end
  if call == REQUEST then
    if exchange.response then tree:add(field.response_in, exchange.response):set_generated() end
    return
  end
  tree:add(field.request_in, exchange.request):set_generated()
  if exchange.name then tree:add(field.rpc, printable(exchange.name)):set_generated() end
  if exchange.response == pinfo.number then
    tree:add(field.time, exchange.took * 1000):set_generated()
  end
end

-- One bencoded value. Returns where it ends, and the name in it; nil if it is malformed.
local function add_value(tree, buffer, first, len)
  local range = buffer(first, len)
  local branch = tree:add(field.payload, range)
  local text = range:raw()
  local reader = setmetatable({
    text = text, at = 1, items = 0, range = function(at, count) return buffer(first + at - 1, count) end,
  }, Reader)
  reader:value(branch, "", 0)
  if not reader.failed and reader.at <= #text then fail(reader, branch, "bytes follow the value") end
  if reader.failed and not reader.cut then return nil, reader.name end
  return first + len, reader.name
end

-- The fields of a route and its answer, one behind the other: which, and how many bytes.
local ROUTE_FIELDS = {
  { "flags", 1 }, { "hops", 1 }, { "skip", 1 }, { "kind", 1 }, { "key", 20 }, { "answer_ip", 16 }, { "answer_port", 2 },
  { "budget", 2 }, { "client_ip", 16 }, { "client_port", 2 }, { "stamp", 2 }, { "seal", 8 },
}
local ROUTE_LEN = 72

-- A route or its answer. Returns where it ends without padding and trace, and the name of its kind; nil if it is malformed.
local function add_route(tree, buffer)
  local first = HEADER + LENGTH
  if buffer:len() < first + ROUTE_LEN then
    tree:add_proto_expert_info(malformed, "the datagram ends inside of the route")
    return nil
  end
  local len = buffer(HEADER, LENGTH):uint()
  tree:add(field.length, buffer(HEADER, LENGTH))
  local at = first
  for _, it in ipairs(ROUTE_FIELDS) do
    local item = tree:add(field[it[1]], buffer(at, it[2]))
    if it[1] == "flags" then
      for _, flag in ipairs { "direct", "proved", "trace", "iterate" } do item:add(field[flag], buffer(at, 1)) end
    end
    at = at + it[2]
  end
  local name = kinds[buffer(first + 3, 1):uint()]
  if len < ROUTE_LEN or first + len > buffer:len() then
    tree:add_proto_expert_info(malformed, "the length is wrong: " .. len)
    return nil, name
  end
  if len == ROUTE_LEN then return at, name end
  return add_value(tree, buffer, at, len - ROUTE_LEN), name
end

-- The payload of a request or a response. Returns where it ends, and the name in it; nil if it is
-- malformed.
local function add_payload(tree, buffer)
  if buffer:len() == HEADER then return HEADER end
  if buffer:len() < HEADER + LENGTH then
    tree:add_proto_expert_info(malformed, "the datagram ends inside of the length")
    return nil
  end
  local len = buffer(HEADER, LENGTH):uint()
  tree:add(field.length, buffer(HEADER, LENGTH))
  local first = HEADER + LENGTH
  if first + len > buffer:len() then
    tree:add_proto_expert_info(malformed, "the payload is cut short: " .. buffer:len() - first .. " of " .. len .. " bytes")
    return nil
  end
  if len == 0 then return first end
  return add_value(tree, buffer, first, len)
end

function kademlua.dissector(buffer, pinfo, root)
  local len = buffer:len()
  if len == 0 then return 0 end
  pinfo.cols.protocol = "Kademlua"
  local tree = root:add(kademlua, buffer())
  tree:add(field.version, buffer(0, 1))
  if buffer(0, 1):uint() ~= 1 or len < HEADER then
    local problem = len < HEADER and "the datagram ends inside of the header" or "not version 1"
    tree:add_proto_expert_info(malformed, problem)
    pinfo.cols.info = "Malformed: " .. problem
    return len
  end
  local call, rpc_id = buffer(29, 1):uint(), tostring(buffer(21, 8):bytes())
  tree:add(field.from, buffer(1, 20))
  tree:add(field.rpc_id, buffer(21, 8))
  tree:add(field.call, buffer(29, 1))
  if not calls[call] then
    tree:add_proto_expert_info(malformed, "unknown call number " .. call)
    pinfo.cols.info = "Malformed: unknown call number " .. call
    return len
  end

  local rest, name = HEADER, nil
  if call == REQUEST or call == RESPONSE then rest, name = add_payload(tree, buffer) end
  if call ~= REQUEST then name = nil end
  if call == ROUTE or call == ROUTED then rest, name = add_route(tree, buffer) end
  local exchange = exchange_of(pinfo, call, rpc_id, name)
  if name then tree:add(field.rpc, printable(name)):set_generated() end
  add_exchange(tree, exchange, pinfo, call)
  if rest and rest < len then tree:add(field.padding, buffer(rest)) end

  local named = name or (exchange and exchange.name)
  local short = named and printable(named:sub(1, SHOWN)) .. " " or ""
  pinfo.cols.info = (rest and "" or "Malformed: ") .. short .. calls[call]:lower() .. ", " .. rpc_id:lower()
  tree:append_text(", " .. short .. calls[call])
  return len
end

-- Recognises the protocol by the first bytes: the version, a known call, and behind it nothing or the
-- beginning of a payload that is a list or a dictionary. With the first such packet the whole
-- conversation is taken, including malformed packets.
local function looks_like_it(buffer, pinfo, root)
  if buffer:len() < HEADER or buffer(0, 1):uint() ~= 1 then return false end
  local call = buffer(29, 1):uint()
  if not calls[call] then return false end
  if buffer:len() > HEADER + LENGTH and (call == REQUEST or call == RESPONSE) then
    local lead = buffer(HEADER + LENGTH, 1):uint()
    if lead ~= (call == REQUEST and 0x64 or 0x6c) then return false end
  end
  kademlua.dissector(buffer, pinfo, root)
  pinfo.conversation = kademlua
  return true
end

kademlua:register_heuristic("udp", looks_like_it)
DissectorTable.get("udp.port"):add_for_decode_as(kademlua)
