-- Ids bit by bit: their distance, where they lie, and what the estimate of their number comes from.
--
-- Handed in: `native` with `id_of`, and `pretty`. Handed back: functions that make results, and what
-- other drawings need of ids.

local native, pretty = ...
local count = pretty.count
local concat, insert, sort = table.concat, table.insert, table.sort
local format, rep, sub, byte = string.format, string.rep, string.sub, string.byte
local tonumber, ipairs, error = tonumber, ipairs, error
local floor, max, min = math.floor, math.max, math.min

local BITS = 160

local nibbles = {}
for digit = 0, 15 do
  local text = ""
  for bit = 3, 0, -1 do text = text .. (digit >> bit & 1) end
  nibbles[format("%x", digit)] = text
end

-- The bits of an id of 40 hex digits, as a string of 0 and 1.
local function bits_of(hex) return (string.gsub(hex, "%x", nibbles)) end

-- The distance of two ids, as 40 hex digits: of two distances the string that is less is nearer.
local function xor(a, b)
  local parts = {}
  for at = 1, 40, 8 do
    insert(parts, format("%08x", tonumber(sub(a, at, at + 7), 16) ~ tonumber(sub(b, at, at + 7), 16)))
  end
  return concat(parts)
end

-- Leading bits that two ids share, by their distance.
local function shared(distance)
  local first = string.find(bits_of(distance), "1", 1, true)
  return first and first - 1 or BITS
end

-- Where an id lies, from 0 to 1.
local function position(hex) return tonumber(sub(hex, 1, 8), 16) / 2 ^ 32 end

-- The start of an id, as far as it serves to tell one from another.
local function short(hex) return sub(hex, 1, 12) .. "…" end

-- `what` as an id in hex digits; else an error at the caller's caller.
local function id(fn, name, what, example)
  local hex = native.id_of(what)
  if hex then return hex end
  error(format("%s: %s: expected a 20-byte string or 40 hex digits, got %s. Try %s", fn, name,
    pretty.value(what), example), 3)
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

-- Rows of as many bits as fit, in groups of eight.
local function row_bytes(width)
  for _, bytes in ipairs { 20, 10, 5 } do
    if 4 + 9 * bytes <= width then return bytes end
  end
  return 2
end

local function write_explain(result, out, pen)
  local rows = { { "a", bits_of(result.a) }, { "b", bits_of(result.b) }, { "xor", bits_of(result.xor) } }
  local bytes, same = row_bytes(pen.width), result.bits
  for first = 0, 19, bytes do
    for _, row in ipairs(rows) do
      local groups = {}
      for at = first, min(first + bytes, 20) - 1 do
        local from = 8 * at
        local group = sub(row[2], from + 1, from + 8)
        local faint = max(0, min(8, same - from))
        local text = faint > 0 and pen.paint("faint", sub(group, 1, faint)) or ""
        if faint < 8 and from <= same and same < BITS then
          text = text .. pen.paint("good", sub(group, faint + 1, faint + 1)) .. sub(group, faint + 2)
        else
          text = text .. sub(group, faint + 1)
        end
        insert(groups, text)
      end
      insert(out, format("%-3s %s", row[1], concat(groups, " ")))
    end
    if first + bytes < 20 then insert(out, "") end
  end
  if same == BITS then return insert(out, "the same id") end
  insert(out, format("%s shared; the first that differs is number %d", count(same, "leading bit"), result.number))
  insert(out, format("each belongs into bucket %d of the other's routing table", result.bucket))
  insert(out, format("they are %.3g of the id space apart", result.share))
end

-- How large the network is, lookup by lookup.
local function write_estimate(result, out, pen)
  insert(out, format("about %.0f nodes, give or take %.0f", result.nodes, result.error))
  if #result.samples == 0 then
    return insert(out, format("from the routing table's %s around the own id; no lookup has ended yet",
      count(result.counted, "contact")))
  end
  local most, all = 0, 0
  for _, sample in ipairs(result.samples) do most, all = max(most, sample.nodes), all + #sample.distances end
  insert(out, format("from %s that found %s; each alone says:", count(#result.samples, "lookup"), count(all, "node")))
  local room = pen.width - 30
  for _, sample in ipairs(result.samples) do
    insert(out, format("%s %6.0f %s", short(sample.target), sample.nodes, pretty.bar(sample.nodes / most * room)))
  end
  local nearest, farthest = result.samples[1].distances, nil
  local text = {}
  for i = 1, min(3, #nearest) do text[i] = format("%.2g", nearest[i]) end
  farthest = nearest[#nearest]
  insert(out, format("distances of the first, in shares of the id space: %s … %.2g", concat(text, " "), farthest))
end

pretty.shape("explain", write_explain)
pretty.shape("estimate", write_estimate)

return {
  explain = explain, id = id, bits_of = bits_of, xor = xor, shared = shared, position = position,
  short = short, BITS = BITS,
}
