local function knows(node, id)
  for _, contact in ipairs(node.contacts()) do
    if contact.id == id then return true end
  end
  return false
end

-- How many of the old nodes know the newcomer.
local function acquainted(l)
  local id, count = l.n:node(l.new).id, 0
  for i = 1, 100 do
    if knows(l.n:node(i), id) then count = count + 1 end
  end
  return count
end

return {
  title = "Joining",
  network = { nodes = 100, seed = 3 },
  steps = {
    {
      tell = [[
A new node needs one address, of anybody who is in the network already. It asks there
for the nodes nearest to its own id, asks those, and so on. Then it looks up something
in each of its other buckets. Now it knows its surroundings, and since every node that it
asked has seen it, they know it too.

n has 100 nodes.]],
      task = "Let one more join: n:join()",
      hint = "n:join() returns the numbers of those that have joined, here of one.",
      expects = { "number", "join" },
      check = function(l)
        local joins = l.calls("join")
        if #joins == 0 then return end
        local alive = l.n:alive()
        if #alive == 101 then
          l.new = alive[101]
          return true
        end
        return ("One is enough, and now %d are alive. lesson.reset() takes it back."):format(#alive)
      end,
      otherwise = "Nobody has joined by that: n:join()",
      praise = function(l)
        return ("Node %d has joined. It sent %d datagrams so far."):format(l.new, l.n:node(l.new).node().counters.datagrams_out)
      end,
      answer = "n:join()",
      wrong = { { "101", "Nobody has joined" }, { "n:join(2)", "One is enough" }, { "lesson.reset()" } },
    },
    {
      tell = "Its routing table was empty a moment ago.",
      task = function(l) return ("How many contacts does node %d know now?"):format(l.new) end,
      hint = { "As in the lesson before: contacts lists them, # counts.", function(l) return ("#n:node(%d).contacts()"):format(l.new) end },
      expects = { "number", "contacts", "tree", "routing" },
      check = function(l, number)
        if number == #l.n:node(l.new).contacts() then return true end
        if number == 100 or number == 101 then return "All of them? It has asked only a few, and has room for fewer than that." end
        if number == 0 then return "A moment ago, yes." end
        local call = l.call(number)
        if not call then return end
        if call.args[1] ~= l.new then return ("That is another node than %d."):format(l.new) end
        return "There they are. How many?"
      end,
      otherwise = "It knows another number of contacts; let Lua count them.",
      praise = function(l)
        return ("Right: %d, from the address of a single one."):format(#l.n:node(l.new).contacts())
      end,
      answer = function(l) return ("#n:node(%d).contacts()"):format(l.new) end,
      wrong = {
        { "0", "A moment ago" }, { "100", "All of them?" }, { "n:node(1).contacts()", "another node" },
        { function(l) return ("n:node(%d).contacts()"):format(l.new) end, "How many?" }, { "3.5", "another number" },
      },
    },
    {
      tell = [[
And who knows it? Nobody told the others, but a node that is asked remembers the asker.
A contact has an id, as text: n:node(1).contacts()[1].id is one, n:node(1).id another.]],
      task = function(l) return ("How many of the 100 old nodes have node %d among their contacts? Let Lua look"):format(l.new) end,
      hint = {
        "Go through the nodes 1 to 100, and through the contacts of each; count those whose id is that of the new node.",
        function(l)
          return ([[
count = 0
for i = 1, 100 do
  for _, c in ipairs(n:node(i).contacts()) do
    if c.id == n:node(%d).id then count = count + 1 end
  end
end
return count]]):format(l.new)
        end,
      },
      expects = "number",
      check = function(l, number)
        if number == acquainted(l) then return true end
        if number == 0 then return "Nobody would be sad. Compare the ids as text: those of contacts, and n:node(i).id." end
        if number == 100 then return "Not everybody: only those that it has asked, or that have heard of it." end
        if number == #l.n:node(l.new).contacts() then return "That is how many it knows. How many know it?" end
      end,
      otherwise = "Lua counts another number. hint() has a loop for it.",
      praise = function(l) return ("Right: %d of 100 know it, and none was told to."):format(acquainted(l)) end,
      answer = function(l)
        return ([[count = 0 for i = 1, 100 do for _, c in ipairs(n:node(i).contacts()) do
          if c.id == n:node(%d).id then count = count + 1 end end end return count]]):format(l.new)
      end,
      wrong = { { "0", "sad" }, { "100", "Not everybody" }, { "-1", "another number" } },
    },
    {
      tell = "And do the others find it? Any node may look for an id with n:findnode(i, id).",
      task = function(l) return ("Let node 1 look for node %d, by its id"):format(l.new) end,
      hint = {
        function(l) return ("The id of that node is n:node(%d).id."):format(l.new) end,
        function(l) return ("n:findnode(1, n:node(%d).id)"):format(l.new) end,
      },
      expects = { "findnode", "findvalue", "node", "trace" },
      check = function(l, result)
        local call = l.call(result)
        if not call or call.name ~= "findnode" and not (call.name == "trace" and call.result.call == "findnode") then return end
        local found, asker = call.result, call.name == "trace" and call.args[2] or call.args[1]
        if not call.here then return "That was in another network than n." end
        if found.target ~= l.n:node(l.new).id then return "That was a search for another id. Whose was it?" end
        if asker ~= 1 then return ("Node %s did look. Let node 1 do it, which has been here all the time."):format(asker) end
        if found.nodes[1] and found.nodes[1].id == found.target then return true end
        return "That did not find it. lesson.reset() puts the network back to how the step began."
      end,
      otherwise = "A search for a node is n:findnode(i, id).",
      praise = "There it is, first in the list: at distance 0 from the id that was looked for.",
      answer = function(l) return ("n:findnode(1, n:node(%d).id)"):format(l.new) end,
      wrong = {
        { 'n:findnode(1, sha1("nobody"))', "another id" },
        { function(l) return ("n:findnode(2, n:node(%d).id)"):format(l.new) end, "Let node 1" },
        { function(l) return ("n:findvalue(1, n:node(%d).id)"):format(l.new) end, "A search for a node" },
      },
    },
  },
  finish = "Nobody was told to make room, and nobody keeps a list. Joining is looking for oneself.",
}
