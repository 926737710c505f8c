-- What the node sends and receives: one line for each packet, cut to the columns that there are, but
-- to no fewer than 80: too little would be left to read.
--
-- Handed in: `native` and `pretty`. Handed back: nothing; it gives the results of packets, tap, untap
-- and capture their looks.

local native, pretty = ...
local count, span, where, clipped = pretty.count, pretty.span, pretty.where, pretty.clipped
local found, value = pretty.found, pretty.value
local concat, insert = table.concat, table.insert
local format, gsub, sub = string.format, string.gsub, string.sub
local date, tointeger, max = os.date, math.tointeger, math.max
local ipairs, pcall, type = ipairs, pcall, type

local COLUMNS = 80 -- at the least
local NAME = 16 -- characters of an RPC's name that are shown
local LISTED = 8 -- arguments or results; a line has no room for more

-- Among several ids the first digits are enough to recognise one.
local function id_or_value(item, alone)
  if type(item) ~= "string" or #item ~= 20 then return value(item) end
  local digits = native.tohex(item)
  return alone and digits or sub(digits, 1, 8) .. "…"
end

local function ids_and_values(list)
  local texts = {}
  for i, item in ipairs(list) do
    texts[i] = id_or_value(item, #list == 1)
    if i == LISTED then break end
  end
  return concat(texts, ", ")
end

-- What an answer brings, in a few words.
local brings = {}
function brings.ping() return "pong" end
function brings.findnode(results) return count(#results[1], "contact") end
function brings.findvalue(results)
  local first = results[1]
  return count(#(first.retval or {}), "value") .. ", " .. count(#(first.closest or {}), "contact")
end
function brings.store(results)
  if results[1] == 1 then return "stored" end
  return "refused" .. (results[2] and ": " .. found(results[2]) or "")
end

local function gist(packet)
  if packet.error then return found(packet.error) .. ": " .. value(packet.bytes) end
  if packet.args then return ids_and_values(packet.args) end
  if not packet.results then return "" end
  local ok, text = pcall(brings[packet.rpc] or ids_and_values, packet.results)
  if not ok then text = ids_and_values(packet.results) end
  return packet.ms and text .. " in " .. span(packet.ms) or text
end

local function clock(time)
  local second = time // 1
  return date("%H:%M:%S", tointeger(second)) .. format(".%03d", (time - second) * 1000 // 1)
end

local function columns(pen) return max(pen.width, COLUMNS) end

local arrows = { ["in"] = "<", out = ">" }
local kinds = { request = "?", answer = "=" }

local function write_news(event, out, pen)
  insert(out, clipped(format("%s %s %s", clock(event.time), found(event.kind), pretty.contact(event.peer)), columns(pen)))
end

local function what_of(packet)
  local kind = kinds[packet.kind] or found(packet.kind)
  if packet.rpc then return clipped(found(packet.rpc), NAME) .. " " .. kind end
  return packet.kind == "malformed" and kind or "(unknown) " .. kind
end

local function write_packet(packet, out, pen)
  if not packet.direction then return write_news(packet, out, pen) end -- a contact came or went
  local head = format("%s %s %-15s %-11s %5d  ", clock(packet.time), arrows[packet.direction],
    where(packet.peer), what_of(packet), packet.size)
  -- A large table is written in lines.
  local text = gsub(gist(packet), "%s*\n%s*", " ")
  local line = gsub(clipped(head .. text, columns(pen)), "%s+$", "")
  insert(out, packet.error and pen.paint("bad", line) or line)
end

local function write_packets(packets, out, pen)
  for _, packet in ipairs(packets) do write_packet(packet, out, pen) end
  insert(out, count(#packets, "packet"))
end

local function write_untap(result, out)
  local lost = result.lost > 0 and ", " .. count(result.lost, "event") .. " lost" or ""
  insert(out, count(result.ended, "tap") .. " ended" .. lost)
end

local function write_capture(result, out)
  if not result.file then return insert(out, "no capture") end
  local lost = result.lost > 0 and ", " .. result.lost .. " lost" or ""
  local state = result.running and "is being written, " or ""
  insert(out, format("%s: %s%s, %d bytes%s", native.escape(result.file, false), state,
    count(result.packets, "packet"), result.bytes, lost))
end

pretty.shape("packet", write_packet, native.shapes.packet)
pretty.shape("packets", write_packets)
pretty.shape("untap", write_untap)
pretty.shape("capture", write_capture)
