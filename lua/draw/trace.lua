-- The story of a lookup as text: a table with one line for each query, the tree of which node named
-- which, and the cost.
--
-- Handed in: `native` and `pretty`, to which it adds the shapes `trace` and `lookups`. They only read
-- the plain table of a result, so that any similar table can be drawn.

local native, pretty = ...
local escape, count, span, seconds = native.escape, pretty.count, pretty.span, pretty.seconds
local where, clipped = pretty.where, pretty.clipped
local insert, concat = table.insert, table.concat
local format, rep, sub = string.format, string.rep, string.sub
local ipairs, next, max = ipairs, next, math.max

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

local function put_queries(queries, parents, on_way, out, pen)
  local row = "%3s %3s %7s %s %s %-" .. width_of(queries) .. "s %4s %-8s %5s %s"
  insert(out, format(row, "hop", "rnd", "sent ms", "   rtt ms", "   #", "asked", "bits", "named by", "new", "nearest"))
  for i, query in ipairs(queries) do
    local by = parents[i] > 0 and "#" .. parents[i] or "own"
    local new, nearest = "-", "-"
    if query.outcome == "answered" then
      new, nearest = query.new .. "/" .. query.contacts, query.bits_before
      if query.bits_after > nearest then nearest = nearest .. ">" .. query.bits_after end
    end
    local rtt, index = format("%9s", query.ms and number(query.ms) or query.outcome), format("%4s", "#" .. i)
    local style = style_of[query.outcome]
    insert(out, format(row, query.hop, query.round, number(query.sent), style and pen.paint(style, rtt) or rtt,
      on_way[i] and pen.paint("good", index) or index, where(query.who), query.bits, by, new, nearest))
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
  insert(out, result.call .. " " .. result.target .. ", cause: " .. result.cause)
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

local function write_lookups(list, out)
  local row = "%2s %7s %-7s %-9s %-" .. DIGITS .. "s %4s %4s %6s %7s %s"
  insert(out, format(row, "#", "ago", "cause", "call", "target", "hops", "msgs", "bytes", "ms", "ended"))
  for i, result in ipairs(list) do
    insert(out, format(row, i, seconds(result.ago), result.cause, result.call, sub(result.target, 1, DIGITS),
      result.hops, result.messages, result.bytes_sent + result.bytes_received, number(result.ms), result.ended))
  end
  if #list == 0 then insert(out, "no lookup has ended yet") end
end

pretty.shape("trace", write_trace, native.shapes.trace)
pretty.shape("lookups", write_lookups)
