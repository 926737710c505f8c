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

n has 1000 nodes, and a datagram takes 20 to 80 ms, as it does across the world.]],
      task = "Let node 1 find the nodes nearest to key: n:findnode(1, key)",
      hint = "n:findnode(1, key)",
      check = function(l, result)
        if type(result) ~= "table" or not result.nodes then return end
        if result.target == tohex(l.set.key) then return true end
        return "That went to another id than key."
      end,
      praise = "Twenty nodes, the nearest first.",
      answer = "n:findnode(1, key)",
      wrong = { { 'n:findnode(1, sha1("key"))', "another id" } },
    },
    {
      tell = [[
n:trace shows the way: one line for each question, with who was asked, who had named
that node, and how many leading bits it shares with the key. Watch the bits grow. Below
it draws the tree of who named whom, with stars on the way to the nearest.]],
      task = "Trace a lookup from node 500: n:trace(findnode, 500, key)",
      hint = "n:trace(findnode, 500, key)",
      check = function(l, result)
        if type(result) ~= "table" or not result.queries then return end
        if result.target ~= tohex(l.set.key) then return "That went to another id than key." end
        if not rawequal(getmetatable(result), nil) and tostring(result):find("named by") then
          l.trace = result
          return true
        end
        return "That is the result without the way; put trace before it."
      end,
      answer = "n:trace(findnode, 500, key)",
      wrong = { { "n:findnode(500, key)", "without the way" } },
    },
    {
      tell = [[
Each line has a hop: 1 for contacts of the node's own table, 2 for those whom these
named, and so on.]],
      task = "How many hops did that lookup take, at most? Type the number",
      hint = "The last line says it; so does n:trace(findnode, 500, key).hops",
      check = function(l, number)
        if number == l.trace.hops then return true end
        if type(number) == "number" then return "Look at the greatest number in the first column." end
      end,
      praise = function(l)
        return ("Right: %d, in a network of 1000. Each hop at least halves the distance, so ten\nwould be the worst: the logarithm of 1000. Knowing 20 in each bucket saves most."):format(l.trace.hops)
      end,
      answer = function(l) return tostring(l.trace.hops) end,
      wrong = { { "1000", "greatest number" } },
    },
  },
  finish = "kademlua sim hops.lua shows how the hops grow from 10 nodes to 10,000: hardly.",
}
