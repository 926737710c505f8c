-- Ids bit by bit: their distance, where they lie, and where the estimate of their number comes
-- from.
--
-- Handed in: `native` with `id_of` and `describe`, and `pretty`. Handed back: functions that make results, and
-- functions about ids for other drawings.

local native, pretty = ...
local count, short = pretty.count, pretty.short
local concat, insert = table.concat, table.insert
local find, format, gsub = string.find, string.format, string.gsub
local rep, sub = string.rep, string.sub
local tonumber, ipairs, error = tonumber, ipairs, error
local floor, huge, max, min = math.floor, math.huge, math.max, math.min

local BITS = 160

local bits_of_digit, digit_of_bits = {}, {}
for value = 0, 15 do
  local digit, bits = format("%x", value), ""
  for bit = 3, 0, -1 do bits = bits .. (value >> bit & 1) end
  bits_of_digit[digit], digit_of_bits[bits] = bits, digit
end

-- The bits of an id of 40 hex digits, as a string of 0 and 1, and back.
local function bits_of(hex) return (gsub(hex, "%x", bits_of_digit)) end
local function hex_of(bits) return (gsub(bits, "....", digit_of_bits)) end

-- The distance of two ids, as 40 hex digits: of two distances the smaller string is nearer.
local function xor(a, b)
  local parts = {}
  for at = 1, 40, 8 do
    insert(parts, format("%08x", tonumber(sub(a, at, at + 7), 16) ~ tonumber(sub(b, at, at + 7), 16)))
  end
  return concat(parts)
end

-- Leading bits that two ids share, by their distance.
local function shared(distance)
  local first = find(bits_of(distance), "1", 1, true)
  return first and first - 1 or BITS
end

-- Where an id lies, from 0 to 1.
local function position(hex) return tonumber(sub(hex, 1, 8), 16) / 2 ^ 32 end

-- `what` as an id in hex digits.
local function id(fn, name, what, example)
  local hex = native.id_of(what)
  if hex then return hex end
  error(format("%s: %s: expected a 20-byte string or 40 hex digits, got %s. Try %s", fn, name,
    native.describe(what), example))
end

local function explain(a, b)
  local example = 'explain(sha1("a"), sha1("b"))'
  local left, right = id("explain", "a", a, example), id("explain", "b", b, example)
  local distance = xor(left, right)
  local bits = shared(distance)
  return {
    a = left, b = right, xor = distance, bits = bits, bucket = bits < BITS and bits or nil,
    number = bits + 1, share = position(distance),
  }
end

-- The bits from `first` on, in groups of eight: those that are shared faint, then the first that differs.
local function groups_of(bits, first, last, same, pen)
  local groups = {}
  for from = first, last, 8 do
    local group = sub(bits, from + 1, from + 8)
    local faint = max(0, min(8, same - from))
    local rest = sub(group, faint + 1)
    if from + faint == same then rest = pen.paint("good", sub(rest, 1, 1)) .. sub(rest, 2) end
    insert(groups, pen.paint("faint", sub(group, 1, faint)) .. rest)
  end
  return concat(groups, " ")
end

-- As many bits in each row as fit.
local function bits_of_row(width)
  for _, bytes in ipairs { 20, 10, 8, 5 } do
    if 4 + 9 * bytes - 1 <= width then return 8 * bytes end
  end
  return 32
end

local function write_explain(result, out, pen)
  local rows = { { "a", result.a }, { "b", result.b }, { "xor", result.xor } }
  for _, row in ipairs(rows) do insert(out, format("%-3s %s", row[1], row[2])) end
  local same, step = result.bits, bits_of_row(pen.width)
  for first = 0, BITS - 1, step do
    insert(out, "")
    local last = min(first + step, BITS) - 1
    for _, row in ipairs(rows) do
      insert(out, format("%-3s %s", row[1], groups_of(bits_of(row[2]), first, last, same, pen)))
    end
    if first <= same and same <= last then
      local at = same - first
      insert(out, rep(" ", 4 + at + at // 8) .. pen.paint("good", "▲"))
    end
  end
  insert(out, "")
  if same == BITS then return insert(out, "the same id") end
  pretty.put_text(out, format("%s shared: each belongs into bucket %d of the other", count(same, "leading bit"), result.bucket), pen.width)
  insert(out, format("the first bit that differs, ▲, is number %d for getbucketno", result.number))
  insert(out, format("the distance is %.3g of the id space", result.share))
end

-- How large the network is, and the distances that say so.
local function write_estimate(result, out, pen)
  local nodes = count(floor(result.nodes + 0.5), "node")
  insert(out, pen.paint("own", format("about %s, give or take %.0f", nodes, result.error)))
  local least, most, farthest = huge, 0, 0
  for _, sample in ipairs(result.samples) do
    least, most = min(least, sample.nodes), max(most, sample.nodes)
    farthest = max(farthest, sample.distances[#sample.distances] or 0)
  end
  if result.from == "routing table" then
    pretty.put_text(out, format("from %s around the own id, as no lookup tells of more", count(result.counted, "contact")), pen.width)
  else
    pretty.put_text(out, format("from %s that ended; each alone says between %.0f and %.0f",
      count(#result.samples, "lookup"), least, most), pen.width)
  end
  if farthest == 0 then return end
  local room = pen.width - 33
  local scale = format("%.2g of the id space", farthest)
  insert(out, format("%-13s %4s  %8s  0%s%s", "target", "seen", "estimate", rep(" ", room - 1 - #scale), scale))
  local rows, full = {}, 0
  for i, sample in ipairs(result.samples) do
    local places, most = {}, 0
    for j, distance in ipairs(sample.distances) do places[j] = distance / farthest end
    rows[i], most = pretty.spread(places, room)
    full = max(full, most)
  end
  for i, sample in ipairs(result.samples) do
    insert(out, format("%s %4d  %8.0f  %s", short(sample.target), #sample.distances, sample.nodes, pretty.strip(rows[i], full)))
  end
  insert(out, "each node that was seen, by its distance from the target")
end

pretty.shape("explain", write_explain)
pretty.shape("estimate", write_estimate)

return {
  explain = explain, id = id, bits_of = bits_of, hex_of = hex_of, xor = xor, shared = shared, position = position,
  BITS = BITS,
}
