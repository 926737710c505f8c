-- The story of a lookup as text: a table with one line for each query, the tree of which node named
-- which, and the cost.
--
-- Handed in: `native` and `pretty`, to which it adds the shapes `trace` and `lookups`. They only read
-- the plain table of a result, so that any similar table can be drawn.

local native, pretty = ...
local escape, count, span, seconds = native.escape, pretty.count, pretty.span, pretty.seconds
local where, clipped = pretty.where, pretty.clipped
local insert, remove, concat = table.insert, table.remove, table.concat
local format, gsub, sub = string.format, string.gsub, string.sub
local ipairs, next, max, abs = ipairs, next, math.max, math.abs

local LEVELS = 8 -- of the tree, each one step to the right; below them there are only numbers
local DIGITS = 8 -- of an id where the whole does not fit
local REASON = 40 -- characters of a peer's reason at the most

-- The width of the column of addresses.
local function width_of(rows)
  local width = 5
  for _, row in ipairs(rows) do width = max(width, #where(row.who)) end
  return width
end

local function number(ms) return format("%.1f", ms) end

-- For each query the number of the one that named its contact, 0 for the node's own table. It is
-- smaller than the query's own, so that no way up goes in circles.
local function parents_of(queries)
  local parents, answered = {}, {}
  for i, query in ipairs(queries) do
    local by = query.introduced_by
    parents[i] = by and answered[by.id] or 0
    -- An id may be asked at several addresses; the one that names others has answered.
    if query.outcome == "answered" then answered[query.who.id] = i end
  end
  return parents
end

-- How a round trip ended without an answer, in nine columns.
local style_of = { ["timed out"] = "bad", failed = "bad", pending = "faint" }

-- The columns of a table, each with its width; below 0 it is filled at the right. Without room for all of them those with
-- the names in `less` are left out, in this order.
local function columns_for(columns, less, pen)
  local width = #columns - 1
  for _, column in ipairs(columns) do width = width + abs(column[2]) end
  for _, name in ipairs(less) do
    for i, column in ipairs(columns) do
      if column[1] == name and width > pen.width then
        width = width - abs(column[2]) - 1
        remove(columns, i)
      end
    end
  end
  return columns
end

-- A row of the table; cells are found by the names of their columns.
local function row_of(columns, cells, styles, pen)
  local texts = {}
  for i, column in ipairs(columns) do
    local name = column[1]
    local text = format("%" .. column[2] .. "s", cells[name])
    texts[i] = styles[name] and pen.paint(styles[name], text) or text
  end
  return (gsub(concat(texts, " "), " +$", ""))
end

local function head_of(columns, pen)
  local heads = {}
  for _, column in ipairs(columns) do heads[column[1]] = column[1] end
  return row_of(columns, heads, {}, pen)
end

local function put_queries(queries, parents, on_way, out, pen)
  local columns = columns_for({
    { "hop", 3 }, { "rnd", 3 }, { "sent ms", 7 }, { "rtt ms", 9 }, { "#", 4 }, { "asked", -width_of(queries) }, { "bits", 4 },
    { "named by", -8 }, { "new", 5 }, { "nearest", -7 },
  }, { "named by", "sent ms", "bits" }, pen) -- the tree below tells who named whom, too
  insert(out, head_of(columns, pen))
  for i, query in ipairs(queries) do
    local new, nearest = "-", "-"
    if query.outcome == "answered" then
      new, nearest = query.new .. "/" .. query.contacts, query.bits_before
      if query.bits_after > nearest then nearest = nearest .. ">" .. query.bits_after end
    end
    insert(out, row_of(columns, {
      hop = query.hop, rnd = query.round, ["sent ms"] = number(query.sent), ["rtt ms"] = query.ms and number(query.ms) or query.outcome,
      ["#"] = "#" .. i, asked = where(query.who), bits = query.bits, ["named by"] = parents[i] > 0 and "#" .. parents[i] or "own",
      new = new, nearest = nearest,
    }, { ["rtt ms"] = style_of[query.outcome], ["#"] = on_way[i] and "good" or nil }, pen))
  end
end

-- Ids that the lookup was for: the nodes that had values, or else the nearest node that answered.
local function goals_of(result)
  local goals, nearest = {}, result.nodes[1]
  for _, hit in ipairs(result.values or {}) do goals[hit.who.id] = ", has the value" end
  if next(goals) == nil and nearest then goals[nearest.id] = ", the nearest" end
  return goals
end

-- The queries that led to the goals, the goals among them.
local function ways_to(goals, queries, parents)
  local on_way = {}
  for i, query in ipairs(queries) do
    local at = query.outcome == "answered" and goals[query.who.id] and i or 0
    while at > 0 do
      on_way[at], at = true, parents[at]
    end
  end
  return on_way
end

-- Numbers of queries as lines that begin with `first`, later ones with `indent`.
local function put_numbers(numbers, first, indent, columns, out, width)
  local line, used = first, columns
  for i, query in ipairs(numbers) do
    local text = "#" .. query
    if i > 1 and used + 1 + #text > width then
      insert(out, line)
      line, used = indent, columns
    end
    line, used = line .. " " .. text, used + 1 + #text
  end
  insert(out, line)
end

-- The tree. A contact is just a number if it named no node that was asked, and is on no way to the
-- result.
local function put_tree(result, parents, goals, on_way, out, pen)
  local queries = result.queries
  local children = {}
  for i = 0, #queries do children[i] = {} end
  for i, parent in ipairs(parents) do insert(children[parent], i) end

  local function all_below(at, into)
    for _, child in ipairs(children[at]) do
      insert(into, child)
      all_below(child, into)
    end
    return into
  end

  local function put_below(at, indent, level)
    local branches, numbers = {}, {}
    for _, child in ipairs(children[at]) do
      local is_branch = level <= LEVELS and (on_way[child] or #children[child] > 0)
      insert(is_branch and branches or numbers, child)
    end
    if level > LEVELS then numbers = all_below(at, {}) end
    for i, child in ipairs(branches) do
      local is_last = i == #branches and #numbers == 0
      local query = queries[child]
      local label = "#" .. child .. " " .. where(query.who) .. ", " .. count(query.bits, "bit") .. (goals[query.who.id] or "")
      if on_way[child] then label = pen.paint("good", "* " .. label) else label = "─ " .. label end
      insert(out, indent .. (is_last and "└─" or "├─") .. label)
      put_below(child, indent .. (is_last and "    " or "│   "), level + 1)
    end
    if #numbers > 0 then put_numbers(numbers, indent .. "└──", indent .. "   ", 4 * level - 1, out, pen.width) end
  end

  local own = false
  for _, hit in ipairs(result.values or {}) do own = own or hit.hops == 0 end
  insert(out, pen.paint("own", own and "this node, has the value" or "this node"))
  put_below(0, "", 1)
end

local function put_deliveries(result, out, pen)
  local row = "%7s %9s %5s %-" .. width_of(result.deliveries) .. "s %s"
  insert(out, format(row, "sent ms", "rtt ms", "tries", "asked", "outcome"))
  for _, delivery in ipairs(result.deliveries) do
    local outcome = delivery.outcome
    if delivery.outcome ~= "stored" then outcome = pen.paint("bad", outcome) end
    if delivery.reason then outcome = outcome .. ": " .. clipped(escape(delivery.reason), REASON) end
    insert(out, format(row, number(delivery.sent), number(delivery.ms), delivery.tries, where(delivery.who), outcome))
  end
  insert(out, "stored at " .. count(#result.stored, "node") .. (result.kept_here and " and this one" or ""))
  pretty.put_spread(result, out, pen)
end

local function write_trace(result, out, pen)
  local queries = result.queries
  pretty.put_text(out, result.call .. " " .. result.target .. ", cause: " .. result.cause, pen.width)
  if #queries > 0 then
    local parents, goals = parents_of(queries), goals_of(result)
    local on_way = ways_to(goals, queries, parents)
    put_queries(queries, parents, on_way, out, pen)
    insert(out, "who named whom, * on the way to the result:")
    put_tree(result, parents, goals, on_way, out, pen)
  end
  if result.deliveries then put_deliveries(result, out, pen) end
  pretty.put_hits(result.values or {}, out)
  insert(out, format("%s, %d bytes sent, %d received", count(result.messages, "message"), result.bytes_sent, result.bytes_received))
  insert(out, format("%s, in %s, %s, %s", result.ended, span(result.ms), count(result.rounds, "round"), count(result.hops, "hop")))
end

local function write_lookups(list, out, pen)
  local columns = columns_for({
    { "#", 2 }, { "ago", 7 }, { "cause", -7 }, { "call", -9 }, { "target", -DIGITS }, { "hops", 4 }, { "msgs", 4 }, { "bytes", 6 },
    { "ms", 7 }, { "ended", -13 },
  }, { "call", "bytes" }, pen)
  insert(out, head_of(columns, pen))
  for i, result in ipairs(list) do
    insert(out, row_of(columns, {
      ["#"] = i, ago = seconds(result.ago), cause = result.cause, call = result.call, target = sub(result.target, 1, DIGITS),
      hops = result.hops, msgs = result.messages, bytes = result.bytes_sent + result.bytes_received, ms = number(result.ms),
      ended = result.ended,
    }, {}, pen))
  end
  if #list == 0 then insert(out, "no lookup has ended yet") end
end

pretty.shape("trace", write_trace, native.shapes.trace)
pretty.shape("lookups", write_lookups)
