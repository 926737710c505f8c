-- The routing table: bucket by bucket, as the trie that it is, and along the id space.
--
-- Handed in: `pretty` and `ids` (ids.lua). Handed back: functions that make results from what routing()
-- returns.

local pretty, ids = ...
local count, span, seconds, where = pretty.count, pretty.span, pretty.seconds, pretty.where
local concat, insert, sort = table.concat, table.insert, table.sort
local format, rep, sub, len = string.format, string.rep, string.sub, utf8.len
local ipairs = ipairs
local floor, max, min = math.floor, math.max, math.min

local FILL = 20 -- columns of a full bucket
local PREFIX = 14 -- bits of a prefix that are shown

-- The bits with which all ids of a bucket begin.
local function prefix(own, bucket)
  local bits = sub(own, 1, bucket.prefix_bits)
  if bucket.is_last then return bits end
  return bits .. (sub(own, bucket.prefix_bits + 1, bucket.prefix_bits + 1) == "0" and "1" or "0")
end

-- Adds what follows from the rest.
local function routing(result)
  local own = ids.bits_of(result.id)
  for _, bucket in ipairs(result.buckets) do bucket.prefix = prefix(own, bucket) end
  return result
end

local function shown_prefix(bits)
  if #bits > PREFIX then bits = "…" .. sub(bits, -PREFIX) end
  return bits .. "…"
end

local function padded(text, width) return text .. rep(" ", width - len(text)) end

local function fill(bucket, k, pen)
  local held = #bucket.contacts
  local bar = pretty.bar(min(1, held / k) * FILL)
  local text = padded(bar, FILL)
  return (held >= k and pen.paint("good", text) or text) .. format(" %2d of %d", held, k)
end

local function write_contact(contact, out, pen)
  local id = pen.width >= 110 and contact.id or ids.short(contact.id)
  local line = format("  %-21s %s  %s, seen %s ago", where(contact), id,
    contact.rtt and span(contact.rtt) or "not timed", seconds(contact.seen))
  if contact.failures > 0 then line = line .. ", " .. pen.paint("bad", count(contact.failures, "failure")) end
  insert(out, line)
end

-- Words in as many lines as it takes.
local function write_wrapped(first, words, out, width)
  local line = first
  for _, word in ipairs(words) do
    if #line + 1 + #word > width then
      insert(out, line)
      line = rep(" ", #first)
    end
    line = line .. " " .. word
  end
  insert(out, line)
end

local function write_routing(result, out, pen)
  for _, bucket in ipairs(result.buckets) do
    insert(out, format("%s %s  %s, idle %s", pen.paint("own", format("bucket %d", bucket.prefix_bits)),
      padded(bucket.is_last and shown_prefix(bucket.prefix) .. " own" or shown_prefix(bucket.prefix), 20),
      fill(bucket, result.k, pen), seconds(bucket.idle)))
    for _, contact in ipairs(bucket.contacts) do write_contact(contact, out, pen) end
    local waiting = {}
    for i, contact in ipairs(bucket.replacements) do waiting[i] = where(contact) end
    if #waiting > 0 then write_wrapped("  waiting:", waiting, out, pen.width) end
  end
end

-- The nearest contacts to a key, at most k.
local function nearest(result, key)
  local list = {}
  for _, bucket in ipairs(result.buckets) do
    for _, contact in ipairs(bucket.contacts) do
      local distance = ids.xor(key, contact.id)
      insert(list, { who = contact, distance = distance, bits = ids.shared(distance) })
    end
  end
  sort(list, function(a, b) return a.distance < b.distance end)
  for at = #list, result.k + 1, -1 do list[at] = nil end
  return list
end

-- `key`, if there is one, in hex digits.
local function tree(result, key)
  routing(result)
  if key then
    result.key = key
    result.bucket = min(ids.shared(ids.xor(result.id, key)), #result.buckets - 1) + 1
    result.nearest = nearest(result, key)
  end
  return result
end

local function share(bits)
  if bits <= 10 then return "1/" .. (1 << bits) end
  return "2^-" .. bits
end

local function write_nearest(result, out, pen)
  insert(out, "nearest to " .. ids.short(result.key) .. ", with their distance in binary:")
  local room = max(8, min(ids.BITS, pen.width - 24))
  for _, near in ipairs(result.nearest) do
    local bits = sub(ids.bits_of(near.distance), 1, room)
    local zeros = sub(bits, 1, near.bits)
    local one, rest = sub(bits, near.bits + 1, near.bits + 1), sub(bits, near.bits + 2)
    insert(out, format("%-22s %s%s%s", where(near.who), pen.paint("faint", zeros), pen.paint("good", one), rest))
  end
  if #result.nearest == 0 then insert(out, "no contact is known") end
end

local function write_tree(result, out, pen)
  local own = ids.bits_of(result.id)
  insert(out, "own id " .. ids.short(result.id) .. " = " .. sub(own, 1, 24) .. "…")
  local room = PREFIX + 3
  for i, bucket in ipairs(result.buckets) do
    local branch = bucket.is_last and "└─" or "├─"
    local line = format("  %s %s %s  %s", branch, padded(shown_prefix(bucket.prefix), room),
      fill(bucket, result.k, pen), share(bucket.prefix_bits + (bucket.is_last and 0 or 1)))
    if bucket.is_last then line = line .. pen.paint("own", "  own id") end
    if result.bucket == i then line = line .. pen.paint("mark", "  ◀ key") end
    insert(out, line)
    if not bucket.is_last then
      insert(out, "  " .. pen.paint("own", sub(own, bucket.prefix_bits + 1, bucket.prefix_bits + 1)))
    end
  end
  if result.key then write_nearest(result, out, pen) end
end

-- All that are known and where they lie, from 0 to 1.
local function ring(result)
  local known = {}
  for _, bucket in ipairs(result.buckets) do
    for _, contact in ipairs(bucket.contacts) do
      insert(known, { id = contact.id, at = ids.position(contact.id) })
    end
  end
  sort(known, function(a, b) return a.id < b.id end)
  return { id = result.id, at = ids.position(result.id), known = known }
end

local levels = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

local function write_ring(result, out, pen)
  local columns = pen.width // 16 * 16
  local counts, most = {}, 1
  for column = 1, columns do counts[column] = 0 end
  for _, node in ipairs(result.known) do
    local column = floor(node.at * columns) + 1
    counts[column] = counts[column] + 1
    most = max(most, counts[column])
  end
  local texts, digits = {}, {}
  for column, held in ipairs(counts) do
    texts[column] = held == 0 and " " or levels[max(1, floor(held / most * #levels + 0.5))]
  end
  for digit = 0, 15 do digits[digit + 1] = padded(format("%x", digit), columns // 16) end
  local own = floor(result.at * columns)
  insert(out, concat(texts))
  insert(out, pen.paint("faint", concat(digits)))
  local label = own + 1 + 15 < columns and "▲ own id" or "own id ▲"
  local before = own + 1 + 15 < columns and own or own - 7
  insert(out, rep(" ", before) .. pen.paint("own", label))
  insert(out, format("%s by the first digit of the id; a full column holds %d", count(#result.known, "contact"), most))
end

pretty.shape("routing", write_routing)
pretty.shape("tree", write_tree)
pretty.shape("ring", write_ring)

return { routing = routing, tree = tree, ring = ring }
