-- The routing table: bucket by bucket, as the trie that it is, and along the id space.
--
-- Handed in: `pretty` and `ids` (ids.lua). Handed back: functions that make results from what routing()
-- returns.

local pretty, ids = ...
local count, seconds, where = pretty.count, pretty.seconds, pretty.where
local concat, insert, sort = table.concat, table.insert, table.sort
local format, gsub, rep, sub = string.format, string.gsub, string.rep, string.sub
local len = utf8.len
local ipairs = ipairs
local floor, max, min = math.floor, math.max, math.min

local PREFIX = 14 -- bits of a prefix that are shown
local DIGITS = 10 -- of an id at the end of a range, at most

-- The bits with which all ids of a bucket begin.
local function prefix(own, bucket)
  local bits = sub(own, 1, bucket.prefix_bits)
  if bucket.is_last then return bits end
  return bits .. (sub(own, bucket.prefix_bits + 1, bucket.prefix_bits + 1) == "0" and "1" or "0")
end

-- Adds what follows from the rest: the bits with which the ids in a bucket begin, and its first and last
-- id.
local function routing(result)
  local own = ids.bits_of(result.id)
  for _, bucket in ipairs(result.buckets) do
    local bits = prefix(own, bucket)
    bucket.prefix = bits
    bucket.first = ids.hex_of(bits .. rep("0", ids.BITS - #bits))
    bucket.last = ids.hex_of(bits .. rep("1", ids.BITS - #bits))
  end
  return result
end

local function shown_prefix(bits)
  if #bits > PREFIX then bits = "…" .. sub(bits, 1 - PREFIX) end
  return bits .. "…"
end

local function padded(text, width) return text .. rep(" ", width - len(text)) end

-- The width of the longest count of contacts in these buckets.
local function figures_of(buckets)
  local most = 0
  for _, bucket in ipairs(buckets) do most = max(most, bucket.room) end
  return #format("%d", most)
end

-- How full a bucket is: a bar of `columns` columns, and the numbers.
local function fill(bucket, columns, figures, pen)
  local held, room = #bucket.contacts, bucket.room
  local text = padded(pretty.bar(min(1, held / room) * columns), columns)
  local number = "%" .. figures .. "d"
  return (held >= room and pen.paint("good", text) or text) .. format(" " .. number .. " of " .. number, held, room)
end

local function held_in(buckets)
  local held = 0
  for _, bucket in ipairs(buckets) do held = held + #bucket.contacts end
  return held
end

local function write_routing(result, out, pen)
  local figures = figures_of(result.buckets)
  local columns = pen.width < 80 and 6 or 20 -- of a bar
  insert(out, format("own id %s, %s in %s, k = %d", pretty.short(result.id),
    count(held_in(result.buckets), "contact"), count(#result.buckets, "bucket"), result.k))
  for _, bucket in ipairs(result.buckets) do
    insert(out, format("%s  %s %s, idle %s%s", pen.paint("own", format("bucket %-3d", bucket.prefix_bits)),
      padded(shown_prefix(bucket.prefix), PREFIX + 1), fill(bucket, columns, figures, pen), seconds(bucket.idle),
      bucket.is_last and pen.paint("own", ", own id") or ""))
    for _, contact in ipairs(bucket.contacts) do insert(out, "  " .. pretty.known_row(contact, pen)) end
    local waiting = pretty.places(bucket.replacements)
    if #waiting > 0 then pretty.wrap(out, format("  %d waiting:", #waiting), waiting, pen.width) end
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

local function tree(result, key)
  routing(result)
  if key ~= nil then
    key = ids.id("tree", "key", key, 'tree(sha1("key"))')
    result.key = key
    result.bucket = min(ids.shared(ids.xor(result.id, key)), #result.buckets - 1) + 1
    result.nearest = nearest(result, key)
  end
  return result
end

local function share(bucket)
  local bits = #bucket.prefix
  return bits <= 10 and "1/" .. (1 << bits) or "2^-" .. bits
end

local function write_nearest(result, out, pen)
  if #result.nearest == 0 then return insert(out, "no contact is known") end
  insert(out, "")
  insert(out, format("%-21s %4s  %s", "nearest to the key", "bits", "distance in binary"))
  local room = min(ids.BITS, pen.width - 29)
  for _, near in ipairs(result.nearest) do
    local bits, zeros = ids.bits_of(near.distance), min(near.bits, room)
    insert(out, format("%-21s %4d  %s%s%s%s", where(near.who), near.bits, pen.paint("faint", sub(bits, 1, zeros)),
      pen.paint("good", sub(bits, zeros + 1, min(zeros + 1, room))), sub(bits, zeros + 2, room),
      room < ids.BITS and "…" or ""))
  end
end

-- The first and the last id of a bucket, with enough digits to tell them apart.
local function range(bucket, digits) return sub(bucket.first, 1, digits) .. "…" .. sub(bucket.last, 1, digits) end

-- One line for each bucket: at the left the own id's way down, to the right the bucket that
-- branches off from it.
local function write_tree(result, out, pen)
  local own, deepest = ids.bits_of(result.id), 0
  for _, bucket in ipairs(result.buckets) do deepest = max(deepest, bucket.prefix_bits) end
  local digits = min(DIGITS, max(4, deepest // 4 + 1))
  local figures = figures_of(result.buckets)
  local has_room = 64 + 2 * figures + 2 * digits <= pen.width
  local columns = pen.width < 68 and 4 or 10 -- of a bar
  insert(out, "own id " .. pretty.short(result.id) .. " = " .. pen.paint("own", sub(own, 1, 24)) .. "…")
  if result.key then
    insert(out, "key    " .. pretty.short(result.key) .. " = " .. pen.paint("mark", sub(ids.bits_of(result.key), 1, 24)) .. "…")
  end
  for i, bucket in ipairs(result.buckets) do
    local bits = bucket.prefix_bits
    local line = format("%s %s %s %s  ", pen.paint("own", bits > 0 and sub(own, bits, bits) or " "),
      bucket.is_last and "└───" or "├─" .. sub(bucket.prefix, -1) .. "─",
      padded(shown_prefix(bucket.prefix), PREFIX + 1), fill(bucket, columns, figures, pen))
    local marks = has_room and "  " .. range(bucket, digits) or ""
    if bucket.is_last then marks = marks .. pen.paint("own", "  own id") end
    if result.bucket == i then marks = marks .. pen.paint("mark", "  ◀ key") end
    line = line .. (marks == "" and share(bucket) or padded(share(bucket), 6) .. marks)
    insert(out, line)
  end
  if result.key then write_nearest(result, out, pen) end
end

-- All known ids and where they lie, from 0 to 1.
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

local function write_ring(result, out, pen)
  local places = {}
  for i, node in ipairs(result.known) do places[i] = node.at end
  local columns = pen.width // 16 * 16
  local counts, most = pretty.spread(places, columns)
  local digits = {}
  for digit = 0, 15 do digits[digit + 1] = padded(format("%x", digit), columns // 16) end
  local at, right = floor(result.at * columns), "▲ own id"
  insert(out, pretty.strip(counts, most))
  insert(out, pen.paint("faint", (gsub(concat(digits), " +$", ""))))
  if at + len(right) <= columns then
    insert(out, rep(" ", at) .. pen.paint("own", right))
  else
    insert(out, rep(" ", at - 7) .. pen.paint("own", "own id ▲"))
  end
  pretty.put_text(out, format("%s, by the first digit of their ids; a full column is %d", count(#result.known, "contact"), max(1, most)), pen.width)
end

pretty.shape("routing", write_routing)
pretty.shape("tree", write_tree)
pretty.shape("ring", write_ring)

return { routing = routing, tree = tree, ring = ring }
