-- What is wrong with a search, if it should be one of node `from` for `key`.
local function wrong_search(l, call, from)
  if not call.here then return "That was in another network than n." end
  if call.result.target ~= tohex(l.set.key) then return "That went to another id than key." end
  local asker = call.name == "trace" and call.args[2] or call.args[1]
  if asker ~= from then return ("That was node %s; let node %d do it."):format(asker, from) end
end

return {
  title = "The lookup, hop by hop",
  network = { nodes = 1000, seed = 4, latency = { 20, 80 } },
  start = function(l) l.set.key = sha1("lesson 4") end,
  steps = {
    {
      tell = [[
To find the nodes nearest to a key, a node asks those of its own contacts that are
nearest: whom do you know that is nearer? They answer with k contacts each; it asks
the nearest of these, three at a time (alpha), and so on until the k nearest have all
answered and nobody knows nearer ones.

n has 1000 nodes, and a datagram takes 20 to 80 ms, as it does across the world. There
is a key, called key. n:findnode(i, id) lets node i search.]],
      task = "Let node 1 find the nodes that are nearest to key",
      hint = { "Put the number of the node for i, and key for id.", "n:findnode(1, key)" },
      expects = { "findnode", "findvalue", "trace" },
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        if call.name == "findvalue" then return "That looks for a value. The nodes are found by findnode." end
        local wrong = wrong_search(l, call, 1)
        return wrong or call.result.nodes ~= nil
      end,
      otherwise = "Nodes are found by findnode.",
      praise = function(l, result)
        return ("%d nodes, the nearest first, from a network in which node 1 knows %d."):format(#l.call(result).result.nodes, #l.n:node(1).contacts())
      end,
      answer = "n:findnode(1, key)",
      wrong = {
        { 'n:findnode(1, sha1("key"))', "another id" }, { "n:findnode(2, key)", "let node 1 do it" },
        { "n:findvalue(1, key)", "looks for a value" },
      },
    },
    {
      tell = [[
n:trace shows the way: one line for each question, with who was asked, who had named
that node, and how many leading bits it shares with the key. Watch the bits grow. Below
it draws the tree of who named whom, with stars on the way to the nearest.

It takes the function first, and then its arguments: n:trace(findvalue, i, key).]],
      task = "Trace how node 500 finds the nodes nearest to key",
      hint = { "The function is findnode this time, and i is 500.", "n:trace(findnode, 500, key)" },
      expects = { "trace", "findnode", "findvalue" },
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        if call.name ~= "trace" then return "That is the result without the way; put trace before it." end
        if call.result.call ~= "findnode" then return "That traces a " .. call.result.call .. "; nodes are found by findnode." end
        local wrong = wrong_search(l, call, 500)
        if wrong then return wrong end
        l.trace = call.result
        return true
      end,
      otherwise = "Put trace before it, with findnode as its first argument.",
      praise = function(l)
        local first, last = l.trace.queries[1].bits, 0
        for _, query in ipairs(l.trace.queries) do last = math.max(last, query.bits) end
        return ("The first node that was asked shared %d bits with the key, the nearest shares %d."):format(first, last)
      end,
      answer = "n:trace(findnode, 500, key)",
      wrong = {
        { "n:findnode(500, key)", "without the way" }, { "n:trace(findvalue, 500, key)", "traces a findvalue" },
        { "n:trace(findnode, 1, key)", "let node 500" }, { 'n:trace(findnode, 500, sha1("x"))', "another id" },
      },
    },
    {
      tell = [[
Each line has a hop: 1 for contacts of the node's own table, 2 for contacts that these
named, and so on.]],
      task = "How many hops did that lookup take, at most? Type the number",
      hint = {
        "It is the greatest number in the first column, hop. (rnd, beside it, counts something else.)",
        function(l) return ("The last line says it, too: %d."):format(l.trace.hops) end,
      },
      expects = "number",
      check = function(l, number)
        if number == l.trace.hops then return true end
        if number == #l.trace.queries then return "That is how many questions were asked. Hops are in the first column." end
        if number == l.trace.rounds then return "Those are the rounds, of three questions at a time. Hops are in the first column." end
      end,
      otherwise = "Look for the greatest number in the first column.",
      praise = function(l)
        return ("Right: %d, in a network of 1000. Each hop at least halves the distance, so ten would be the worst: the logarithm of 1000. Knowing 20 in each bucket saves most."):format(l.trace.hops)
      end,
      answer = function(l) return tostring(l.trace.hops) end,
      wrong = { { function(l) return tostring(#l.trace.queries) end, "how many questions" }, { "1000", "first column" } },
    },
    {
      tell = "Of 1000 nodes the lookup has found the 20 that are nearest. What did it cost?",
      task = "How many nodes were asked in that lookup? Type the number",
      hint = {
        "Each line of the table is one question, and the column # numbers them.",
        function(l) return ("The last line of the table is #%d."):format(#l.trace.queries) end,
      },
      expects = "number",
      check = function(l, number)
        if number == #l.trace.queries then return true end
        if number == 20 then return "That is how many were found. To be sure that none is nearer it had to ask a few more." end
        if number == 1000 then return "Then one could have asked everybody. It is far cheaper than that." end
      end,
      otherwise = "Count the lines of the table; the column # has done so already.",
      praise = function(l)
        local asked, found = #l.trace.queries, #l.trace.nodes
        local wasted = asked == found and "the very ones that it has found" or ("%d more than it has found"):format(asked - found)
        return ("Right: %d of 1000, %s. In a network of a million it would be hardly more."):format(asked, wasted)
      end,
      answer = function(l) return tostring(#l.trace.queries) end,
      wrong = { { "1000", "everybody" }, { "7", "Count the lines" } },
    },
  },
  finish = "kademlua sim hops.lua shows how the hops grow from 10 nodes to 10,000: hardly.",
}
