-- How values and results look at the prompt and through pprint.
--
-- Handed in: `native` with `escape`, `escape_styled`, `seal`, `tohex`, `terminal` and `unicode`. Handed back:
-- `value(v, pen)`, any value as text, and `shown(v, pen, whole)`, in full if `whole`; `shapes`, one metatable for
-- each kind of result, whose `__tostring` is its text; `shape(name, write)`, which makes one more; and words that
-- drawings share. Everything from the network is escaped here: a terminal shows it and never obeys it.
--
-- Showing runs nothing of the user's: tables are read raw, without their metamethods, and results are copied
-- without any (`bare`) before they are written. (print is told to call tostring, and does.)
--
-- A pen writes for `width` columns, and with colours or without (`paint(style, text)`). The text of
-- a result from tostring and print never has colours and is 80 columns wide; the prompt and pprint
-- ask the terminal.

local native = ...
local escape, escape_styled, tohex = native.escape, native.escape_styled, native.tohex
local concat, sort, insert = table.concat, table.sort, table.insert
local format, gsub, match, find, sub = string.format, string.gsub, string.match, string.find, string.sub
local rep, reverse, gmatch, remove = string.rep, string.reverse, string.gmatch, table.remove
local len, offset, codepoint = utf8.len, utf8.offset, utf8.codepoint
local min, max, floor, tointeger = math.min, math.max, math.floor, math.tointeger
local error, rawget, type, tostring, next, ipairs, pcall = error, rawget, type, tostring, next, ipairs, pcall
local getmetatable, setmetatable, mathtype = getmetatable, setmetatable, math.type

-- The names of styles are Rust's (STYLES in escape.rs), which turns sealed marks into escape
-- sequences.
local seal = native.seal

local function new_pen(width, colours)
  local function paint(style, text)
    if not colours or text == "" then return text end
    return seal .. style .. ";" .. text .. seal .. "end;"
  end
  return { width = width, paint = paint }
end

local plain = new_pen(80, false)

local DEPTH = 32 -- tables below are not shown
local ITEMS, BYTES = 1000, 100000 -- of one value; what follows is counted
local TEXT = 10000 -- bytes of one string; what follows is counted
local LONG = 400 -- bytes of a string, of which nobody wants to read a copy
local WHOLE_ITEMS, WHOLE_BYTES = 1000000, 16 << 20 -- of one shown whole; more is an error, as no screen has use for it

local keywords = {}
for word in gmatch("and break do else elseif end false for function goto if in local nil not or repeat return then true until while", "%a+") do
  keywords[word] = true
end

-- Numbers before strings before everything else, each in order.
local rank = { number = 1, string = 2 }
local function place_of(key) return type(key) == "boolean" and tostring(key) or format("%s %p", type(key), key) end
local function before(a, b)
  local ra, rb = rank[type(a)] or 3, rank[type(b)] or 3
  if ra ~= rb then return ra < rb end
  if ra == 3 then return place_of(a) < place_of(b) end
  return a < b
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do insert(keys, key) end
  sort(keys, before)
  return keys
end

local value

-- A count of things, as people write it: 999,000.
local function thousands(n)
  local grouped = gsub(reverse(format("%d", n)), "%d%d%d", "%0,")
  return (gsub(reverse(grouped), "^,", ""))
end

-- What is being shown: which tables are `open` around the next value, how many `items` and `bytes` may follow, and
-- which long strings were `seen`. Many ways may lead to a table, so even a small one can have an endless text.
local function new_sight(whole)
  local sight = { open = {}, seen = {}, whole = whole }
  sight.items, sight.bytes = whole and WHOLE_ITEMS or ITEMS, whole and WHOLE_BYTES or BYTES
  return sight
end

local function spend(sight, text)
  sight.items, sight.bytes = sight.items - 1, sight.bytes - #text
  if not sight.whole then return text end
  if sight.items < 0 then error("a value of more than " .. thousands(WHOLE_ITEMS) .. " items is too large to show") end
  if sight.bytes < 0 then error("a text of more than " .. (WHOLE_BYTES >> 20) .. " MB is too large to show") end
  return text
end

local function is_spent(sight) return not sight.whole and (sight.items <= 0 or sight.bytes <= 0) end

-- The first bytes of a string, cutting no UTF-8 character in two.
local function first_bytes(s, count)
  local last = count
  while last > count - 3 and match(sub(s, last + 1, last + 1), "[\x80-\xbf]") do last = last - 1 end
  return sub(s, 1, last)
end

-- A string as Lua would read it, cut if it is long, and shorter the second time; 20 bytes that are not text are an
-- id or a key, shown as digits.
local function quoted(s, sight)
  if #s == 20 and escape(s) ~= s then return tohex(s) end
  local shown, rest = s, ""
  if not sight.whole and #s > LONG and sight.seen[s] then
    shown, rest = first_bytes(s, 20), format("… the same %s bytes", thousands(#s))
  elseif not sight.whole and #s > TEXT then
    shown = first_bytes(s, TEXT)
    rest = format("… and %s more bytes", thousands(#s - #shown))
  end
  if #s > LONG then sight.seen[s] = true end
  return '"' .. escape((gsub(shown, '[\\"]', "\\%0"))) .. '"' .. rest
end

local function key_text(key, sight)
  if type(key) == "string" and match(key, "^[%a_][%w_]*$") and not keywords[key] then return spend(sight, key) end
  return "[" .. value(key, nil, nil, sight) .. "]"
end

-- The items of a table as texts: those of its list, and the others; and how many are not shown.
local function items(t, pen, indent, sight)
  local listed, keys, list, rest, left = 0, {}, {}, {}, 0
  while rawget(t, listed + 1) ~= nil do listed = listed + 1 end
  for key in next, t do
    if not (mathtype(key) == "integer" and key >= 1 and key <= listed) then insert(keys, key) end
  end
  for i = 1, listed do
    if is_spent(sight) then
      left = listed - i + 1
      break
    end
    list[i] = value(rawget(t, i), pen, indent, sight)
  end
  if is_spent(sight) then return list, rest, left + #keys end
  sort(keys, before)
  for i, key in ipairs(keys) do
    if is_spent(sight) then return list, rest, #keys - i + 1 end
    sight.items = sight.items + 1 -- with its key it is one
    insert(rest, key_text(key, sight) .. " = " .. value(rawget(t, key), pen, indent, sight))
  end
  return list, rest, left
end

local SHORT = 24 -- characters of an item that shares its line with others

-- Short items in columns, as many as there is room for; `nil` if one is long.
local function columns(list, room)
  local widest, all_numbers = 0, true
  for _, text in ipairs(list) do
    local length = len(text)
    if not length or length > SHORT or find(text, "[\n\x1b]") then return nil end
    widest, all_numbers = max(widest, length), all_numbers and find(text, "^[%d.+-]")
  end
  local across = max(1, (room + 1) // (widest + 2))
  local rows = {}
  for first = 1, #list, across do
    local row = {}
    for i = first, min(first + across - 1, #list) do
      local fill = rep(" ", widest - len(list[i]))
      row[#row + 1] = all_numbers and fill .. list[i] .. "," or list[i] .. "," .. fill
    end
    rows[#rows + 1] = gsub(concat(row, " "), ",? *$", "")
  end
  return rows
end

local function plain_table(t, pen, indent, sight)
  if sight.open[t] then return "<a table around this one>" end
  if #indent >= 2 * DEPTH then return "<more tables>" end
  sight.open[t] = true
  local inner = indent .. "  "
  local list, rest, left = items(t, pen, inner, sight)
  sight.open[t] = nil
  if left > 0 then insert(rest, "and " .. thousands(left) .. " more") end
  local function joined(texts, between) return concat(texts, between) .. (texts[1] and rest[1] and between or "") .. concat(rest, between) end
  local line = joined(list, ", ")
  if #indent + #line + 4 < pen.width and not find(line, "\n", 1, true) then return "{" .. line .. "}" end
  local rows = #list > 1 and columns(list, pen.width - #inner) or list
  return "{\n" .. inner .. joined(rows, ",\n" .. inner) .. "\n" .. indent .. "}"
end

-- The substitutes for the characters of drawings if the locale only knows ASCII: one for one, so that columns
-- stay columns.
local ascii = { ["…"] = "~", ["─"] = "-", ["│"] = "|", ["├"] = "|", ["└"] = "`", ["┤"] = "+", ["◀"] = "<", ["▲"] = "^" }
for i, block in ipairs { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" } do ascii[block] = sub(".:-=+*%#", i, i) end
for i, block in ipairs { "▏", "▎", "▍", "▌", "▋", "▊", "▉" } do ascii[block] = i < 4 and "-" or "#" end

-- Braille characters have one bit for each dot.
local function dots_in_ascii(character)
  local bits, dots = codepoint(character) - 0x2800, 0
  if bits < 0 or bits > 0xff then return nil end
  while bits > 0 do
    bits, dots = bits & (bits - 1), dots + 1
  end
  return sub(" ...:::**", dots + 1, dots + 1)
end

local function drawn(text)
  if native.unicode then return text end
  return (gsub(text, "[\xc2-\xf4][\x80-\xbf]+", function(character)
    return ascii[character] or len(character) == 1 and dots_in_ascii(character) or nil
  end))
end

-- The function that writes a result, by its metatable.
local writers = setmetatable({}, { __mode = "k" })

function value(v, pen, indent, sight)
  local kind = type(v)
  pen, sight = pen or plain, sight or new_sight()
  if kind == "string" then return spend(sight, quoted(v, sight)) end
  if kind ~= "table" then return spend(sight, escape(tostring(v))) end
  local write = writers[getmetatable(v)]
  if write then return spend(sight, (gsub(escape_styled(write(v, pen)), "\n", "\n" .. (indent or "")))) end
  return spend(sight, plain_table(v, pen, indent or "", sight))
end

-- A value as text, in full or as much as is useful.
local function shown(v, pen, whole) return value(v, pen, nil, new_sight(whole)) end

-- The parts that results share.

local function count(n, noun) return n == 1 and "1 " .. noun or n .. " " .. noun .. "s" end

local function span(ms)
  if not ms then return "?" end
  return ms < 1000 and format("%.2f ms", ms) or format("%.2f s", ms / 1000)
end

local function seconds(s)
  if s < 120 then return format("%.0f s", s) end
  return s < 7200 and format("%.0f min", s / 60) or format("%.1f h", s / 3600)
end

local function took(result)
  return "in " .. span(result.ms) .. ", " .. count(result.hops, "hop")
end

local function where(contact)
  local address = tostring(contact.address)
  if find(address, ":", 1, true) then address = "[" .. address .. "]" end
  return address .. ":" .. tostring(contact.port)
end

local function places(contacts)
  local texts = {}
  for i, contact in ipairs(contacts) do texts[i] = where(contact) end
  return texts
end

-- The first digits of an id, enough to tell one from another.
local function short(id) return sub(id, 1, 12) .. "…" end

local eighths = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

-- A bar of `columns` columns; a value that is not zero is never invisible.
local function bar(columns)
  local full = columns // 1
  local rest = floor((columns - full) * 8 + 0.5)
  if rest == 8 then full, rest = full + 1, 0 end
  if columns > 0 and full == 0 and rest == 0 then rest = 1 end
  return rep("█", tointeger(full)) .. (eighths[rest] or "")
end

local levels = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

-- How many of these places, from 0 to 1, lie in each column; and the most in one.
local function spread(places, columns)
  local counts, most = {}, 0
  for column = 1, columns do counts[column] = 0 end
  for _, at in ipairs(places) do
    local column = min(columns, at * columns // 1 + 1)
    counts[column] = counts[column] + 1
    most = max(most, counts[column])
  end
  return counts, most
end

-- Draws such columns, where `most` fills one.
local function strip(counts, most)
  local texts = {}
  for column, held in ipairs(counts) do
    texts[column] = held == 0 and " " or levels[max(1, held * #levels // most)]
  end
  return (gsub(concat(texts), " +$", ""))
end

-- Words behind a first text, in as many lines as they take; later lines are indented by its length,
-- unless told otherwise.
local function wrap(out, first, words, width, indent)
  local line = first
  indent = indent or rep(" ", len(first) + 1)
  for i, word in ipairs(words) do
    if len(line) + 1 + len(word) > width and (i > 1 or indent == "") then
      insert(out, line)
      line = indent .. word
    else
      line = line .. " " .. word
    end
  end
  insert(out, line)
end

-- A text of one line, cut to `columns` columns.
local function clipped(text, columns)
  if len(text) <= columns then return text end
  if columns < 1 then return "" end
  return sub(text, 1, offset(text, columns) - 1) .. "…"
end

-- Sentences, in as many lines as they take.
local function put_text(out, text, width)
  local words = {}
  for word in gmatch(text, "%S+") do insert(words, word) end
  wrap(out, remove(words, 1) or "", words, width, "")
end

-- A value that was found; a string is shown without quotes, as it was stored.
local function found(v) return type(v) == "string" and escape(v) or value(v) end

-- Which node has which value; of several copies of a long value only the first is shown.
local function put_hits(hits, out)
  local seen = {}
  for _, hit in ipairs(hits) do
    local text = found(hit.value)
    if seen[text] then text = format("the same %s bytes", thousands(#text)) end
    if #text > LONG then seen[text] = true end
    insert(out, where(hit.who) .. ": " .. text)
  end
end

-- The results, each as lines of text.
local lines = {}

local function contact_text(contact) return where(contact) .. (contact.id and " " .. contact.id or "") end

function lines.contact(contact, out) insert(out, contact_text(contact)) end

-- One contact as a row, with the whole id if there is room.
local function known_row(contact, pen)
  local id = pen.width >= 100 and contact.id or short(contact.id)
  local line = format("%-21s %s %9s, %s%s ago", where(contact), id,
    contact.rtt and span(contact.rtt) or "not timed", pen.width < 64 and "" or "seen ", seconds(contact.seen))
  if contact.failures > 0 then line = line .. ", " .. pen.paint("bad", count(contact.failures, "failure")) end
  return line
end

function lines.known(contact, out, pen) insert(out, known_row(contact, pen)) end

function lines.contacts(contacts, out, pen)
  for _, contact in ipairs(contacts) do lines.known(contact, out, pen) end
  insert(out, count(#contacts, "contact"))
end

function lines.findvalue(result, out)
  put_hits(result.values, out)
  if #result.values == 0 then
    insert(out, "nothing found, " .. count(#result.queries, "node") .. " asked")
  end
  if (result.more or 0) > 0 then
    insert(out, "and " .. result.more .. ' more: findvalue(key, 3, "all") returns them')
  end
  insert(out, took(result))
end

-- What a route has found, attempt by attempt, with the nodes that left their marks.
function lines.route(result, out, pen)
  for i, attempt in ipairs(result.attempts) do
    local how = attempt.skip == 0 and "to " or format("skipping %d, to ", attempt.skip)
    local what = attempt.is_answered and "answered after " or pen.paint("bad", "no answer") .. " in "
    insert(out, format("try %d, %s%s: %s%s", i, how, where(attempt.to), what, span(attempt.ms)))
    local began = attempt.hops and attempt.hops[1] and attempt.hops[1].micros
    for step, hop in ipairs(attempt.hops or {}) do
      local after = hop.micros > 0 and hop.micros >= began and format("  after %d µs", hop.micros - began) or ""
      insert(out, format("  %2d  %s%s", step - 1, hop.id, after))
    end
  end
  if #result.attempts == 0 and not result.fallback then insert(out, "this node can answer itself") end
  if result.fallback then insert(out, "then it was looked up node by node, " .. count(#result.fallback.queries, "node") .. " asked") end
  for _, found in ipairs(result.values or {}) do insert(out, value(found)) end
  if result.located then insert(out, "nearest is " .. where(result.located) .. " " .. result.located.id) end
  if result.held_at then insert(out, "held at " .. where(result.held_at) .. ", too large for a route's answer") end
  if not result.found then insert(out, "nothing found") end
  insert(out, format("%s, %s, in %s", count(result.hops, "hop"), count(result.messages, "message"), span(result.ms)))
end

function lines.findnode(result, out)
  for _, contact in ipairs(result.nodes) do lines.contact(contact, out) end
  if #result.nodes == 0 then insert(out, "nobody answered") end
  insert(out, took(result))
end

-- A warning to the publisher if one owner may have all holders.
local function put_spread(result, out, pen)
  if not result.few_subnets then return end
  put_text(out, pen.paint("bad", "careful:") .. format(" %d of them lie in %s; whoever owns that can hide the value",
    result.public, count(result.subnets, "subnet")), pen.width)
end

function lines.stored(result, out, pen)
  for _, refusal in ipairs(result.refused) do
    put_text(out, where(refusal.who) .. ": refused: " .. escape(refusal.reason), pen.width)
  end
  for _, contact in ipairs(result.silent) do insert(out, where(contact) .. ": no answer") end
  local holders = count(#result.stored, "node")
  if result.kept_here then holders = #result.stored == 0 and "this node alone" or holders .. " and this one" end
  insert(out, "stored at " .. holders .. ", " .. took(result))
  put_spread(result, out, pen)
end

function lines.ping(result, out) insert(out, where(result.who) .. ": " .. span(result.ms)) end

function lines.socket(result, out)
  insert(out, where(result.who) .. ": sees this node at " .. where(result) .. ", in " .. span(result.ms))
end

function lines.bootstrap(result, out, pen)
  insert(out, count(result.answered, "node") .. " answered")
  if #result.silent > 0 then wrap(out, "no answer from", places(result.silent), pen.width) end
end

function lines.node(result, out, pen)
  insert(out, "id        " .. result.id)
  insert(out, "address   " .. where(result))
  insert(out, "uptime    " .. seconds(result.uptime))
  insert(out, format("contacts  %d, of about %.0f nodes", result.contacts, result.estimate))
  local stored = result.stored
  insert(out, format("stored    %s under %s, %d bytes", count(stored.values, "value"), count(stored.keys, "key"), stored.bytes))
  local state = result.state
  if state and state.problem then
    insert(out, "on disk   " .. pen.paint("bad", "nothing is written to " .. escape(state.folder) .. ": " .. escape(state.problem)))
  elseif state then
    local ago = state.written and ", written " .. seconds(state.written) .. " ago" or ", nothing new yet"
    insert(out, "on disk   " .. escape(state.folder) .. ago)
  end
  insert(out, "lookups   " .. result.lookups .. " running")
  for _, name in ipairs(sorted_keys(result.counters)) do
    if name ~= "routes" then insert(out, format("%-26s %s", name, value(result.counters[name]))) end
  end
  for _, name in ipairs(sorted_keys(result.counters.routes)) do
    local number = result.counters.routes[name]
    if number > 0 then insert(out, format("%-26s %s", "routes " .. gsub(name, "_", " "), value(number))) end
  end
end

-- The counters of one kind, without the zeros.
local function put_tallies(kind, counts, out, pen)
  local texts = {}
  for _, name in ipairs(sorted_keys(counts)) do
    if counts[name] > 0 then insert(texts, name .. " " .. counts[name] .. ",") end
  end
  texts[#texts] = gsub(texts[#texts] or "nothing,", ",$", "")
  wrap(out, format("%-10s", kind), texts, pen.width)
end

function lines.xdp(result, out, pen)
  if not result.attached then return put_text(out, result.reason, pen.width) end
  insert(out, "attached   to " .. escape(result.interface) .. ", " .. result.mode)
  insert(out, "heartbeat  " .. (result.heartbeat and format("%.1f s ago", result.heartbeat) or "none"))
  insert(out, "mirrored   " .. count(result.contacts, "contact"))
  if result.cached then
    local cached = result.cached
    insert(out, format("cached     %s, %d bytes; %d hits, %d misses", count(cached.keys, "key"), cached.bytes, cached.hits, cached.misses))
  end
  insert(out, "share      " .. (result.share and format("%.1f %% of all requests", 100 * result.share) or "no requests yet"))
  if result.ns then insert(out, "time       " .. result.ns .. " ns a run") end
  for _, kind in ipairs({ "answered", "forwarded", "passed", "dropped", "strangers" }) do
    put_tallies(kind, result[kind], out, pen)
  end
end

-- Each setting with its value, the values that it takes, and its meaning.
function lines.settings(result, out, pen)
  for _, setting in ipairs(result) do
    local unit = setting.unit ~= "" and " " .. setting.unit or ""
    local usual = setting.value ~= setting.default and format(" (by default %.14g)", setting.default) or ""
    insert(out, pen.paint("own", format("%-20s", setting.name)) .. format(" %.14g%s%s", setting.value, unit, usual))
    local words = {}
    for word in gmatch(format("%s %s Takes %s.", setting.meaning, setting.source, setting.takes), "%S+") do
      insert(words, word)
    end
    wrap(out, "   ", words, min(pen.width, 80), "    ")
  end
end

-- Simulated networks.

-- From what the network says about itself.
function lines.net(stats, out, pen)
  put_text(out, format("%d of %d nodes alive, seed %d, %s since it began, %d datagrams",
    stats.alive, stats.nodes, stats.seed, seconds(stats.time), stats.datagrams), pen.width)
end

function lines.simnode(node, out) insert(out, "node " .. escape(tostring(node.number)) .. " " .. node.id) end

local function middle(list)
  local sorted = {}
  for i, number in ipairs(list) do sorted[i] = number end
  sort(sorted)
  return sorted[(#sorted + 1) // 2], sorted[#sorted]
end

function lines.stats(stats, out)
  insert(out, format("%d of %d nodes alive, %s since it began", stats.alive, stats.nodes, seconds(stats.time)))
  insert(out, format("%d datagrams, %d bytes, %.0f %% lost", stats.datagrams, stats.bytes, 100 * stats.loss))
  if stats.count == 0 then return insert(out, "no lookup or store has ended") end
  insert(out, format("%d lookups and stores, %.1f %% with success", stats.count, 100 * stats.success))
  for _, name in ipairs { "hops", "messages", "ms" } do
    insert(out, format("%-9s half of them at most %.4g, all at most %.4g", name, middle(stats[name])))
  end
end

-- A cluster of real nodes.
function lines.cluster(members, out)
  for i, member in ipairs(members) do
    local state = member.alive and "" or "killed"
    if member.contacts then
      state = format("%s contacts, of about %.0f nodes, %s", member.contacts, member.estimate, count(member.values, "value"))
    end
    local line = format("%3d  127.0.0.1:%d  process %d  %s", i, member.port, member.process, state)
    insert(out, (gsub(line, "%s+$", "")))
  end
end

function lines.memory(result, out)
  insert(out, format("Lua %.0f kB of at most %.0f kB, process %.0f kB", result.lua, result.max, result.process))
end

function lines.task(task, out) insert(out, "task " .. task.task .. " (" .. task.kind .. ")") end

function lines.tasks(tasks, out)
  for _, task in ipairs(tasks) do
    insert(out, format("%3d  %-6s %8s, waits for %s; cancel(%d) ends it", task.task, task.kind, seconds(task.seconds),
      escape(task.waits_for), task.task))
  end
  insert(out, count(#tasks, "task"))
end

function lines.saved(result, out) insert(out, result.bytes .. " bytes in " .. escape(result.file)) end

function lines.help(help, out) insert(out, help.text) end

local shapes = {}

-- A copy of a result, and of all tables in it, without metatables: writing it runs none of the user's code.
local function bare(t, copies)
  copies = copies or {}
  if copies[t] then return copies[t] end
  local copy = {}
  copies[t] = copy
  for key, item in next, t do copy[key] = type(item) == "table" and bare(item, copies) or item end
  return copy
end

local function write_with(shape, name, write)
  local function text(result, pen)
    local out = {}
    -- A program may have changed its result in any way.
    if not pcall(function() write(bare(result), out, pen, result) end) then return "<a changed " .. name .. ">" end
    return drawn(concat(out, "\n"))
  end
  writers[shape] = text
  shape.__name = name
  shape.__tostring = function(result) return text(result, plain) end
end

-- Makes the metatable of one more kind of result; `write(result, out, pen)` puts its lines into `out`. It gets a bare
-- copy, and as the last argument the result itself, which it may only compare. `shape` is the table to use, if there
-- is one.
local function shape(name, write, it)
  shapes[name] = it or {}
  write_with(shapes[name], name, write)
  return shapes[name]
end

for name, write in next, lines do shape(name, write, native.shapes[name]) end

local function pen() return new_pen(native.terminal()) end

return {
  value = value, shown = shown, shapes = shapes, shape = shape, pen = pen, lines = lines,
  bar = bar, spread = spread, strip = strip, wrap = wrap, put_text = put_text, clipped = clipped,
  where = where, contact = contact_text, places = places, count = count, short = short, known_row = known_row, span = span,
  seconds = seconds, took = took, found = found, put_hits = put_hits, put_spread = put_spread,
}
