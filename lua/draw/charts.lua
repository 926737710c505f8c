-- Quick charts of any numbers.
--
-- Handed in: `pretty`. Handed back: functions that check what they are given and make results. (The one
-- crate for charts in a terminal that suits brings in another that nobody keeps up.)

local pretty = ...
local concat, insert, sort = table.concat, table.insert, table.sort
local format, rep, len, char = string.format, string.rep, utf8.len, utf8.char
local type, next, ipairs, error, mathtype = type, next, ipairs, error, math.type
local floor, ceil, max, min, huge, log = math.floor, math.ceil, math.max, math.min, math.huge, math.log

local BINS = 20 -- of a histogram, at most
local ROWS = 12 -- of a plot
local LABEL = 24 -- columns of a label, at most

local function number(fn, where, n)
  if type(n) ~= "number" or n ~= n or n == huge or n == -huge then
    error(format("%s: expected finite numbers, got %s at %s", fn, pretty.value(n), pretty.value(where)), 3)
  end
  return n
end

-- The numbers of a list.
local function numbers(fn, list)
  if type(list) ~= "table" then
    error(format("%s: expected a list of numbers, got %s. Try %s{1, 2, 2, 3}", fn, pretty.value(list), fn), 3)
  end
  local copy, least, most = {}, huge, -huge
  for i, n in ipairs(list) do
    copy[i] = number(fn, i, n)
    least, most = min(least, n), max(most, n)
  end
  if #copy == 0 and next(list) ~= nil then
    error(format("%s: expected a list of numbers, got a table without one at 1", fn), 3)
  end
  if most - least == huge then error(fn .. ": the numbers are too far apart to draw", 3) end
  return copy, least, most
end

-- The next larger one of 1, 2 and 5 with zeros behind.
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

local function hist(list)
  local values, least, most = numbers("hist", list)
  local result = { count = #values, bins = {} }
  if #values == 0 then return result end
  local sorted = {}
  for i, n in ipairs(values) do sorted[i] = n end
  sort(sorted)
  result.least, result.most = least, most
  result.median = sorted[(#sorted + 1) // 2]
  local wanted = min(BINS, max(5, ceil(log(#values, 2)) + 1))
  local whole = are_whole(values)
  local step = 1
  if not (whole and most - least < BINS) then step = round_step(max(most - least, 1e-300) / wanted) end
  if whole then step = max(step, 1) end
  local first = floor(least / step)
  local number_of_bins = min(floor(most / step) - first + 1, 4 * BINS)
  for i = 1, number_of_bins do
    result.bins[i] = { from = (first + i - 1) * step, to = (first + i) * step, count = 0 }
  end
  for _, n in ipairs(values) do
    local bin = result.bins[max(1, min(number_of_bins, floor(n / step) - first + 1))]
    bin.count = bin.count + 1
  end
  result.step, result.whole = step, whole
  return result
end

local function short(n) return n == floor(n) and n > -1e15 and n < 1e15 and format("%d", n) or format("%.4g", n) end

local function label_of_bin(bin, result)
  if result.whole and result.step == 1 then return short(bin.from) end
  return short(bin.from) .. " to " .. short(bin.to)
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
    error(format("bars: expected a table of numbers, got %s. Try bars{a = 1, b = 2}", pretty.value(items)), 2)
  end
  local result, listed = { bars = {} }, #items
  for i = 1, listed do insert(result.bars, { label = i, value = number("bars", i, items[i]) }) end
  local names = {}
  for key, n in next, items do
    if not (mathtype(key) == "integer" and key >= 1 and key <= listed) then
      insert(names, { label = key, value = number("bars", key, n) })
    end
  end
  sort(names, function(a, b)
    if type(a.label) == "number" and type(b.label) == "number" then return a.label < b.label end
    return pretty.value(a.label) < pretty.value(b.label)
  end)
  for _, bar in ipairs(names) do insert(result.bars, bar) end
  return result
end

-- A label as it is, without quotes, and not too long.
local function label(key)
  local text = type(key) == "string" and pretty.found(key) or pretty.value(key)
  if len(text) <= LABEL then return text end
  return string.sub(text, 1, utf8.offset(text, LABEL) - 1) .. "…"
end

local function write_bars(result, out, pen)
  if #result.bars == 0 then return insert(out, "no numbers to draw") end
  local labels, widest, least, most, figures = {}, 0, 0, 0, 0
  for i, bar in ipairs(result.bars) do
    labels[i] = label(bar.label)
    widest, figures = max(widest, len(labels[i])), max(figures, #short(bar.value))
    least, most = min(least, bar.value), max(most, bar.value)
  end
  local range = most - least
  local room = pen.width - widest - figures - 3
  local below = range > 0 and floor(-least / range * room) or 0
  for i, bar in ipairs(result.bars) do
    local cells = range > 0 and bar.value / range * room or 0
    local text
    if cells < 0 then
      local columns = min(below, max(1, floor(-cells + 0.5)))
      text = rep(" ", below - columns) .. pen.paint("bad", rep("█", columns)) .. " "
    else
      text = rep(" ", below) .. pretty.bar(cells) .. (cells > 0 and " " or "")
    end
    insert(out, padded_left(labels[i], widest) .. " " .. text .. short(bar.value))
  end
end

local function plot(list)
  local values, least, most = numbers("plot", list)
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
    for column = 1, columns do texts[column] = char(0x2800 + cells[number * columns + column]) end
    return concat(texts)
  end
  return set, row
end

local function draw_line(set, x1, y1, x2, y2)
  local steps = max(math.abs(x2 - x1), math.abs(y2 - y1), 1)
  for step = 0, steps do
    set(floor(x1 + (x2 - x1) * step / steps + 0.5), floor(y1 + (y2 - y1) * step / steps + 0.5))
  end
end

local function write_plot(result, out, pen)
  local values, least, most = result.values, result.least, result.most
  if #values == 0 then return insert(out, "no numbers to draw") end
  local widest = max(#short(least), #short(most))
  local columns = pen.width - widest - 3
  local set, row = canvas(columns, ROWS)
  local width, height = 2 * columns - 1, 4 * ROWS - 1
  local function x_of(i) return #values == 1 and 0 or floor((i - 1) / (#values - 1) * width + 0.5) end
  local function y_of(n)
    if most == least then return height // 2 end
    return floor((most - n) / (most - least) * height + 0.5)
  end
  for i, n in ipairs(values) do
    local before = values[i - 1] or n
    draw_line(set, x_of(max(1, i - 1)), y_of(before), x_of(i), y_of(n))
  end
  for number = 0, ROWS - 1 do
    local text = ""
    if number == 0 then text = short(most) elseif number == ROWS - 1 then text = short(least) end
    insert(out, padded_left(text, widest) .. " │" .. row(number))
  end
  local last = tostring(#values)
  insert(out, rep(" ", widest) .. " └" .. rep("─", columns))
  insert(out, rep(" ", widest + 2) .. "1" .. rep(" ", columns - 1 - #last) .. last)
end

pretty.shape("hist", write_hist)
pretty.shape("bars", write_bars)
pretty.shape("plot", write_plot)

return { hist = hist, bars = bars, plot = plot }
