local NODES = 400

-- How many of the ids that node 1 knows begin with each digit.
local function crowds(l)
  local counts, most = {}, 0
  for _, contact in ipairs(l.n:node(1).contacts()) do
    local digit = string.sub(contact.id, 1, 1)
    counts[digit] = (counts[digit] or 0) + 1
    most = math.max(most, counts[digit])
  end
  return counts, most
end

local function fullest(l)
  local counts, most = crowds(l)
  for value = 0, 15 do
    local digit = string.format("%x", value)
    if counts[digit] == most then return digit end
  end
end

local function off(l) return l.n:node(1).estimate().nodes - NODES end

local function is_near(a, b) return type(a) == "number" and math.abs(a - b) <= 1 end

return {
  title = "Sizes and estimates",
  network = { nodes = NODES, seed = 9, latency = { 20, 80 } },
  steps = {
    {
      tell = [[
Nobody keeps a list of all nodes, so nobody can count it. And yet each node knows
roughly how many there are. It only has to look around.

Ids are spread evenly, as if thrown by chance. n:node(i).ring() lays the id space out
from left to right, and shows where the ids lie that node i knows.]],
      task = "Draw the ring of node 1. Under which hex digit, 0 to f, does it know most ids? Type the digit",
      hint = {
        "The columns stand above the digits; the highest ones together win. The own id is marked below: look around it.",
        function(l) return ('n:node(1).ring(), and then "%s"'):format(fullest(l)) end,
      },
      expects = { "number", "text", "ring" },
      check = function(l, digit)
        local call = l.call(digit)
        if call and call.name == "ring" then
          if not call.here or call.args[1] ~= 1 then return "That is the ring of another node than 1." end
          return "There it is. Where is the crowd? Type the digit below it."
        end
        local counts, most = crowds(l)
        local text = (type(digit) == "string" or type(digit) == "number") and string.lower(digit) or ""
        if counts[text] == most then return true end
        if string.find(text, "^%x$") then
          local there = counts[text] or 0
          return ("It knows %s there; elsewhere it knows more."):format(there == 1 and "1 id" or there .. " ids")
        end
        if type(digit) == "nil" then return 'A letter wants quotation marks, as in "a".' end
      end,
      otherwise = 'A digit is one of 0 to 9, or a letter from "a" to "f" in quotation marks.',
      praise = function(l)
        local counts, most = crowds(l)
        local sum = 0
        for _, count in next, counts do sum = sum + count end
        local own = counts[string.sub(l.n:node(1).id, 1, 1)] == most and ", around its own id" or ""
        return ("Right: %d of the %d that it knows%s. Near its own id it knows everybody, and elsewhere a few of each region.")
          :format(most, sum, own)
      end,
      answer = function(l) return ('"%s"'):format(fullest(l)) end,
      wrong = {
        { "n:node(1).ring()", "Where is the crowd" }, { "n:node(2).ring()", "another node" },
        { function(l) return fullest(l) == "f" and '"e"' or '"f"' end, "elsewhere it knows more" }, { '"x"', "quotation marks" },
      },
    },
    {
      tell = [[
Where a node knows everybody, it can measure how close they lie. If 20 nodes fill a
twentieth of the id space, some 400 fill it all. That is the estimate:
n:node(i).estimate() tells it, and draws the distances that it comes from.

You know better: there are 400 nodes.]],
      task = "By how many nodes is the estimate of node 1 off? Rounded will do",
      hint = {
        "The first line of n:node(1).estimate() says how many nodes it believes in; what is the difference to 400?",
        "n:node(1).estimate().nodes - 400",
      },
      expects = { "number", "estimate" },
      check = function(l, number)
        local call = l.call(number)
        if call and (not call.here or call.args[1] ~= 1) then return "That is what another node than 1 believes." end
        if call then return "There it is. And the truth is 400: how far is it off?" end
        if is_near(number, off(l)) or is_near(number, -off(l)) then
          l.off, l.error = off(l), l.n:node(1).estimate().error
          return true
        end
        if is_near(number, off(l) + NODES) then return "That is the estimate itself. By how much does it miss 400?" end
        if is_near(number, l.n:node(1).estimate().error) then return "That is how far off it fears to be. How far off is it?" end
      end,
      otherwise = "Not that many. Take the difference between its estimate and 400.",
      praise = function(l)
        return ("Right: %.0f too %s. It had said 'give or take %.0f', which is honest for somebody who has only looked out of the window.")
          :format(math.abs(l.off), l.off < 0 and "few" or "many", l.error)
      end,
      answer = "n:node(1).estimate().nodes - 400",
      wrong = {
        { "n:node(1).estimate()", "how far is it off" }, { "n:node(1).estimate().nodes", "the estimate itself" },
        { "n:node(1).estimate().error", "fears to be" }, { "n:node(3).estimate()", "another node" }, { "-100000", "Not that many" },
      },
    },
    {
      tell = [[
Each node looks out of its own window, and so each believes in another number.
hist draws how often which numbers occur: hist{1, 2, 2, 3} draws four of them.]],
      task = "Collect what all 400 nodes believe in a list, and draw it with hist",
      hint = {
        "list = {}, and then a loop from 1 to 400 that sets list[i] to the nodes of the estimate of node i.",
        "list = {} for i = 1, 400 do list[i] = n:node(i).estimate().nodes end return hist(list)",
      },
      expects = { "hist", "estimate", "table", "number" },
      check = function(l, result)
        local call = l.call(result)
        if call and call.name == "estimate" then return "That is one. All 400 belong in the list." end
        if not call or call.name ~= "hist" then return end
        local list, believed = call.args[1], {}
        if #list < 400 then return ("Those are %s; there are 400 nodes to ask."):format(#list == 1 and "1 number" or #list .. " numbers") end
        for i = 1, 400 do believed[i] = l.n:node(i).estimate().nodes end
        for i = 1, 400 do
          if not is_near(list[i], believed[i]) then
            return ("Number %d of the list is not what node %d believes."):format(i, i)
          end
        end
        l.hist = call.result
        return true
      end,
      otherwise = "Draw the list with hist(list).",
      praise = function(l)
        return ("From %.0f to %.0f, and half of them at most %.0f, where 400 is right. One window misleads; many together mislead less.")
          :format(l.hist.least, l.hist.most, l.hist.median)
      end,
      answer = "list = {} for i = 1, 400 do list[i] = n:node(i).estimate().nodes end return hist(list)",
      wrong = {
        { "n:node(1).estimate()", "That is one" }, { "hist{1, 2, 2, 3}", "4 numbers" },
        { "list = {} for i = 1, 400 do list[i] = i end return hist(list)", "not what node" }, { "{}", "Draw the list" },
      },
    },
    {
      tell = [[
A node need not stay at its window. Each lookup shows it another neighbourhood, around
another id, and how close the nodes lie there; the estimate takes all of them together.
n:findnode(i, id) is a lookup, and n:node(i).estimate().error tells how sure node i is.]],
      task = "Make node 1 surer: let it look for many different ids, until its estimate is off by less than 40, by its own account",
      hint = {
        'Twenty lookups for twenty ids: sha1("a" .. i) is another one for each i.',
        'for i = 1, 20 do n:findnode(1, sha1("a" .. i)) end return n:node(1).estimate()',
      },
      expects = { "number", "estimate", "findnode" },
      check = function(l)
        local now = l.n:node(1).estimate()
        if now.error < 40 and #l.n:alive() == NODES then return true end
        if #l.n:alive() ~= NODES then return "The network has changed meanwhile. lesson.reset() puts it back to how the step began." end
        local lookups = l.calls("findnode")
        if #lookups == 0 then return end
        local ids, own = {}, 0
        for _, call in ipairs(lookups) do
          if call.args[1] == 1 and not ids[call.result.target] then
            ids[call.result.target], own = true, own + 1
          end
        end
        if own == 0 then return "Somebody else has become surer. Let node 1 look." end
        return ("%d of its lookups went to ids of their own; it says 'give or take %.0f'. Other ids, other neighbourhoods: go on."):format(own, now.error)
      end,
      otherwise = "It has not looked for anything yet: n:findnode.",
      praise = function(l)
        local now = l.n:node(1).estimate()
        return ("Now it says %.0f, give or take %.0f, from %d nodes that it has met. The prompt of a real node shows such a number: contacts~estimate.")
          :format(now.nodes, now.error, now.counted)
      end,
      answer = 'for i = 1, 40 do n:findnode(1, sha1("a" .. i)) end return n:node(1).estimate()',
      wrong = {
        { "n:node(1).estimate()", "not looked" }, { 'n:findnode(2, sha1("b"))', "Somebody else" },
        { 'n:findnode(1, sha1("b"))', "go on" },
      },
    },
  },
  finish = [[
No node was counted, and yet all know how many they are. It is how one guesses the
fish in a pond: by how often the net comes up full.]],
}
