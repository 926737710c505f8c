-- Quick charts of any numbers.
--
-- Handed in: `native` with `describe`, and `pretty`. Handed back: functions that check their arguments and
-- make results. (Among the crates for charts in a terminal only one would do, and it only draws curves,
-- labels no ticks, and depends on another that nobody maintains.)

local native, pretty = ...
local concat, insert, sort = table.concat, table.insert, table.sort
local format, gsub, rep = string.format, string.gsub, string.rep
local len, char = utf8.len, utf8.char
local type, next, ipairs, error, tostring, mathtype = type, next, ipairs, error, tostring, math.type
local abs, floor, ceil, max, min, huge, log = math.abs, math.floor, math.ceil, math.max, math.min, math.huge, math.log

local BINS = 20 -- of a histogram, at most
local ROWS = 12 -- of a plot
local LABEL = 24 -- columns of a label, at most
local BARS = 200 -- that are drawn, at most
local EXACT = 1 << 53 -- whole numbers up to here are exact in either kind of number

-- A finite number in a form in which differences do not wrap around.
local function number(fn, where, n)
  if type(n) ~= "number" or n ~= n or n == huge or n == -huge then
    error(format("%s: expected finite numbers, got %s at %s", fn, native.describe(n), pretty.value(where)))
  end
  if mathtype(n) == "integer" and (n > EXACT or n < -EXACT) then return n + 0.0 end
  return n
end

local function check_extent(fn, least, most)
  if most - least == huge then error(fn .. ": the numbers are too far apart to draw") end
end

-- The numbers of a list.
local function numbers(fn, list)
  if type(list) ~= "table" then
    error(format("%s: expected a list of numbers, got %s. Try %s{1, 2, 2, 3}", fn, native.describe(list), fn))
  end
  local copy, least, most = {}, huge, -huge
  for i, n in ipairs(list) do
    n = number(fn, i, n)
    copy[i], least, most = n, min(least, n), max(most, n)
  end
  if #copy == 0 and next(list) ~= nil then
    error(format("%s: expected a list of numbers, got a table with nothing at 1. Try bars", fn))
  end
  check_extent(fn, least, most)
  return copy, least, most
end

-- The next larger number among 1, 2 and 5 with zeros behind.
local function round_step(step)
  local power = 10 ^ floor(log(step, 10))
  for _, factor in ipairs { 1, 2, 5 } do
    if step <= factor * power * (1 + 1e-9) then return factor * power end
  end
  return 10 * power
end

local function are_whole(list)
  for _, n in ipairs(list) do
    if n ~= floor(n) then return false end
  end
  return true
end

-- As a function of its own, so that it can be interrupted.
local function less(a, b) return a < b end

local function sorted(list)
  local copy = {}
  for i, n in ipairs(list) do copy[i] = n end
  sort(copy, less)
  return copy
end

-- The width of a bin: whole for whole numbers, and one in which people count; at most BINS bins.
local function step_of(values, least, most)
  local range, whole = most - least, are_whole(values)
  if range == 0 or whole and range < BINS then return 1, whole end
  -- No step is smaller than this: the least numbers there are cannot be divided further.
  local step = round_step(max(range / min(BINS, max(5, ceil(log(#values, 2)) + 1)), 1e-300))
  return whole and max(step, 1) or step, whole
end

local function hist(list)
  local values, least, most = numbers("hist", list)
  local result = { count = #values, bins = {} }
  if #values == 0 then return result end
  local step, whole = step_of(values, least, most)
  result.least, result.most, result.median = least, most, sorted(values)[(#values + 1) // 2]
  result.step, result.whole = step, whole
  if least == most then
    result.bins[1] = { from = least, to = most, count = #values }
    return result
  end
  -- The quotients of numbers that are large compared to their range do not tell them apart.
  local first = least / step < EXACT and least / step > -EXACT and floor(least / step) * step or least
  local function bin_of(n) return max(0, floor((n - first) / step)) end
  for i = 0, bin_of(most) do
    result.bins[i + 1] = { from = first + i * step, to = first + (i + 1) * step, count = 0 }
  end
  for _, n in ipairs(values) do
    local bin = result.bins[bin_of(n) + 1]
    bin.count = bin.count + 1
  end
  return result
end

-- In four digits, or all those before the point.
local function short(n)
  local written_out = abs(n) < 1e15 and (n == floor(n) or abs(n) >= 1000)
  return format(written_out and "%.0f" or "%.4g", n)
end

-- A bound of a bin, with enough digits to tell it from the next.
local function bound(n, step)
  local decimals = max(0, -floor(log(step, 10) + 1e-9))
  if abs(n) >= 1e9 or decimals > 6 then
    return format("%." .. max(6, min(17, ceil(log(max(abs(n) / step, 1), 10)) + 1)) .. "g", n)
  end
  return (gsub(format("%." .. decimals .. "f", n), "^%-(0%.?0*)$", "%1"))
end

local function label_of_bin(bin, result)
  if result.least == result.most or result.whole and result.step == 1 then return short(bin.from) end
  return bound(bin.from, result.step) .. " to " .. bound(bin.to, result.step)
end

local function padded_left(text, width) return rep(" ", width - len(text)) .. text end

local function write_hist(result, out, pen)
  if result.count == 0 then return insert(out, "no numbers to draw") end
  local labels, widest, most = {}, 0, 0
  for i, bin in ipairs(result.bins) do
    labels[i] = label_of_bin(bin, result)
    widest, most = max(widest, #labels[i]), max(most, bin.count)
  end
  local room = pen.width - widest - #short(most) - 3
  for i, bin in ipairs(result.bins) do
    local bar = pretty.bar(bin.count / most * room)
    if bar ~= "" then bar = bar .. " " end
    insert(out, padded_left(labels[i], widest) .. " " .. bar .. bin.count)
  end
  insert(out, format("%s from %s to %s, half of them at most %s", pretty.count(result.count, "number"),
    short(result.least), short(result.most), short(result.median)))
end

local function bars(items)
  if type(items) ~= "table" then
    error(format("bars: expected a table of numbers, got %s. Try bars{a = 1, b = 2}", native.describe(items)))
  end
  local result, listed = { bars = {} }, #items
  for i = 1, listed do insert(result.bars, { label = i, value = number("bars", i, items[i]) }) end
  local names = {}
  for key, n in next, items do
    if not (mathtype(key) == "integer" and key >= 1 and key <= listed) then
      insert(names, { label = key, value = number("bars", key, n) })
    end
  end
  local place = {}
  for _, bar in ipairs(names) do place[bar] = type(bar.label) == "number" and "" or pretty.value(bar.label) end
  sort(names, function(a, b)
    if type(a.label) == "number" and type(b.label) == "number" then return a.label < b.label end
    return place[a] < place[b]
  end)
  local least, most = 0, 0
  for _, bar in ipairs(names) do insert(result.bars, bar) end
  for _, bar in ipairs(result.bars) do least, most = min(least, bar.value), max(most, bar.value) end
  check_extent("bars", least, most)
  return result
end

-- A label as it is, without quotes, and not too long.
local function label(key)
  local text = type(key) == "string" and pretty.found(key) or pretty.value(key)
  return pretty.clipped(text, LABEL)
end

local function write_bars(result, out, pen)
  if #result.bars == 0 then return insert(out, "no numbers to draw") end
  local drawn = min(#result.bars, BARS)
  local labels, widest, least, most, figures = {}, 0, 0, 0, 0
  for i = 1, drawn do
    local bar = result.bars[i]
    labels[i] = label(bar.label)
    widest, figures = max(widest, len(labels[i])), max(figures, #short(bar.value))
    least, most = min(least, bar.value), max(most, bar.value)
  end
  local range = most - least
  local room = pen.width - widest - figures - 3
  local below = range > 0 and floor(-least / range * room) or 0
  for i = 1, drawn do
    local value = result.bars[i].value
    local cells = range > 0 and value / range * room or 0
    local text
    if cells < 0 then
      local columns = min(below, max(1, floor(-cells + 0.5)))
      text = rep(" ", below - columns) .. pen.paint("bad", rep("█", columns)) .. " "
    else
      text = rep(" ", below) .. pretty.bar(cells) .. (cells > 0 and " " or "")
    end
    insert(out, padded_left(labels[i], widest) .. " " .. text .. short(value))
  end
  if drawn < #result.bars then insert(out, format("and %d more", #result.bars - drawn)) end
end

local function plot(list)
  local values, least, most = numbers("plot", list)
  if #values == 0 then return { values = values } end
  return { values = values, least = least, most = most }
end

-- Braille: each character is two dots wide and four high.
local dots = { { 0x01, 0x02, 0x04, 0x40 }, { 0x08, 0x10, 0x20, 0x80 } }

local function canvas(columns, rows)
  local cells = {}
  for i = 1, columns * rows do cells[i] = 0 end
  local function set(x, y)
    local at = y // 4 * columns + x // 2 + 1
    cells[at] = cells[at] | dots[x % 2 + 1][y % 4 + 1]
  end
  local function row(number)
    local texts = {}
    for column = 1, columns do
      local cell = cells[number * columns + column]
      texts[column] = cell == 0 and " " or char(0x2800 + cell)
    end
    return (gsub(concat(texts), " +$", ""))
  end
  return set, row
end

local function draw_line(set, x1, y1, x2, y2)
  local steps = max(abs(x2 - x1), abs(y2 - y1), 1)
  for step = 0, steps do
    set(floor(x1 + (x2 - x1) * step / steps + 0.5), floor(y1 + (y2 - y1) * step / steps + 0.5))
  end
end

-- The values as points of a grid, a few for each column however many there are.
local function points(values, columns, y_of)
  local list, last = {}, #values - 1
  local at, least, most
  local function flush()
    if not at then return end
    insert(list, { at, least })
    if most ~= least then insert(list, { at, most }) end
  end
  for i, n in ipairs(values) do
    local x, y = last == 0 and 0 or floor((i - 1) / last * (columns - 1) + 0.5), y_of(n)
    if x ~= at then
      flush()
      at, least, most = x, y, y
    end
    least, most = min(least, y), max(most, y)
  end
  flush()
  return list
end

-- Which rows are labelled, and with what.
local function ticks(least, most, row_of)
  if least == most then return { [row_of(least)] = least } end
  local middle = least < 0 and most > 0 and 0 or least + (most - least) / 2
  local texts = { [row_of(least)] = least, [row_of(most)] = most }
  if not texts[row_of(middle)] then texts[row_of(middle)] = middle end
  return texts
end

local function write_plot(result, out, pen)
  local values, least, most = result.values, result.least, result.most
  if #values == 0 then return insert(out, "no numbers to draw") end
  local dots_high = 4 * ROWS - 1
  local function y_of(n)
    if most == least then return dots_high // 2 end
    return floor((most - n) / (most - least) * dots_high + 0.5)
  end
  local labels, widest = ticks(least, most, function(n) return y_of(n) // 4 end), 0
  for row, n in next, labels do
    labels[row] = short(n)
    widest = max(widest, #labels[row])
  end
  local columns = pen.width - widest - 3
  local set, row = canvas(columns, ROWS)
  local before
  for _, point in ipairs(points(values, 2 * columns, y_of)) do
    before = before or point
    draw_line(set, before[1], before[2], point[1], point[2])
    before = point
  end
  for number = 0, ROWS - 1 do
    local text = labels[number]
    insert(out, padded_left(text or "", widest) .. (text and " ┤" or " │") .. row(number))
  end
  insert(out, rep(" ", widest) .. " └" .. rep("─", columns))
  local last = #values > 1 and tostring(#values) or ""
  insert(out, rep(" ", widest + 2) .. "1" .. rep(" ", columns - 1 - #last) .. last)
end

pretty.shape("hist", write_hist)
pretty.shape("bars", write_bars)
pretty.shape("plot", write_plot)

return { hist = hist, bars = bars, plot = plot }
