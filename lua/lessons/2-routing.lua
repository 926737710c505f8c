-- The bucket of a table into which an id belongs, by the bits that its ids share with the own id.
local function bucket_of(node, id)
  local last = #node.routing().buckets - 1
  return math.min(getbucketno(node.id, id) - 1, last)
end

local function known(node) return #node.contacts() end

return {
  title = "The routing table",
  network = { nodes = 200, seed = 2 },
  start = function(l)
    l.set.key = sha1("lesson 2")
    l.bucket = bucket_of(l.n:node(1), l.set.key)
  end,
  steps = {
    {
      tell = [[
Nobody in a large network can know everybody. A Kademlia node knows many nodes near
to its own id and few of those far away. It sorts them into buckets: bucket 0 for
ids that differ in the first bit, which is half of the world; bucket 1 for those that
share one bit, a quarter of the world; and so on. A bucket has room for k = 20.

n is a network of 200 nodes. n:node(i) is one of them; its functions are called as in
n:node(i).tree(), which draws the routing table as the tree that it is.]],
      task = "Draw the tree of any node you like",
      hint = { "i stands for a number from 1 to 200.", "n:node(1).tree()" },
      expects = { "tree", "routing", "contacts", "ring" },
      check = function(l, result)
        local call = l.call(result)
        if not call then return end
        if call.name == "tree" and call.here then
          l.tree = call
          return true
        end
        if call.name == "tree" then return "That is a tree of another network than n." end
        if call.name == "contacts" then return "Those are the contacts without their buckets; take tree." end
        if call.name == "routing" then return "The same table, contact by contact. tree shows it from farther away." end
        if call.name == "node" then return "That is the node. tree is one of its functions: put .tree() behind it." end
      end,
      otherwise = "A drawing, but another one; take tree.",
      praise = function(l)
        local buckets = l.tree.result.buckets
        return ("Node %d sorts its contacts into %d buckets. The first holds %d, for half of the network; the last, around its own id, holds %d.")
          :format(l.tree.args[1], #buckets, #buckets[1].contacts, #buckets[#buckets].contacts)
      end,
      answer = "n:node(1).tree()",
      wrong = {
        { "n:node(1).contacts()", "without their buckets" }, { "n:node(3).routing()", "from farther away" },
        { "n:node(3).ring()", "another one" }, { "net{nodes = 5}:node(1).tree()", "another network" },
      },
    },
    {
      tell = [[
All of them together are the contacts of the node: n:node(i).contacts() lists them,
and # before a list counts it.]],
      task = "How many of the 199 others does node 1 know? Type the number, or let Lua count",
      hint = { "Count the contacts of node 1.", "#n:node(1).contacts()" },
      expects = { "number", "contacts" },
      check = function(l, number)
        if number == known(l.n:node(1)) then return true end
        if number == 199 or number == 200 then return "That would be everybody. It knows fewer than that, and gets along." end
        local call = l.call(number)
        if call and call.here and call.args[1] == 1 then return "Those are they. How many?" end
        if call then return "Those are the contacts of another node than 1." end
      end,
      otherwise = "That is not how many contacts node 1 has.",
      praise = function(l)
        return ("Right: %d of 199. Each time a network doubles, a node needs room for at most 20 more."):format(known(l.n:node(1)))
      end,
      answer = "#n:node(1).contacts()",
      wrong = {
        { "199", "everybody" }, { "n:node(1).contacts()", "How many?" },
        { "n:node(7).contacts()", "another node" }, { "20", "not how many" },
      },
    },
    {
      tell = [[
Where does node 1 look for an id? In the bucket whose ids share as many leading bits
with its own as that id does. There is a key, called key. tree takes one: it marks
where the key falls.]],
      task = "In which bucket of node 1 would key be? They are counted from 0, from the top",
      hint = {
        "n:node(1).tree(key) marks the line. The first line is bucket 0.",
        "explain(key, n:node(1).id) says it too, unless the table ends before.",
        function(l) return ("It is bucket %d."):format(l.bucket) end,
      },
      expects = { "number", "tree", "explain" },
      check = function(l, number)
        if number == l.bucket then return true end
        if number == l.bucket + 1 then return "Counted from 1, yes. Buckets are counted from 0: by the bits that are shared." end
        local call = l.call(number)
        if not call then return end
        if call.name == "explain" then return "That is how many bits they share. The bucket has the same number." end
        if not call.here or call.args[1] ~= 1 then return "That is the tree of another node than 1." end
        if call.result.key ~= tohex(l.set.key) then return "Hand key to it: the tree then marks where it falls." end
        return "There is the mark. Which line is it, counted from 0?"
      end,
      otherwise = "Not that bucket. Look for the mark in the tree.",
      praise = "Right. From there node 1 would take the first nodes to ask about the key: they are nearer to it than node 1 itself.",
      answer = function(l) return tostring(l.bucket) end,
      wrong = {
        { function(l) return tostring(l.bucket + 1) end, "from 0" }, { "n:node(1).tree()", "Hand key to it" },
        { "n:node(1).tree(key)", "the mark" }, { "n:node(2).tree(key)", "another node" }, { "77", "Not that bucket" },
      },
    },
    {
      tell = [[
k is a setting, and net makes networks: this one is net{nodes = 200, seed = 2}, and a
third setting is called k. Smaller buckets make smaller tables.]],
      task = "Make a network of 200 nodes whose buckets hold 5, and draw the tree of its first node",
      hint = {
        "Give it a name, as in m = net{…}, and then look at m:node(1). Another setting goes behind a comma: k = 5.",
        "net{nodes = 200, seed = 2, k = 5}:node(1).tree()",
      },
      expects = { "tree", "routing", "net" },
      check = function(l, result)
        local call = l.call(result)
        if not call then return end
        if call.name == "net" then return "There is the network. Now draw the tree of its first node." end
        if call.name ~= "tree" and call.name ~= "routing" then return end
        if call.here then return "That is n itself, whose buckets hold 20." end
        local made = l.call(call.network)
        local settings = made and made.args[1] or {}
        local k, nodes = settings.k or 20, settings.nodes or 100
        if k ~= 5 then return ("The buckets of that network hold %d, not 5."):format(k) end
        if nodes ~= 200 then return ("That network has %d nodes. To compare it with n it should have 200, too."):format(nodes) end
        if call.args[1] ~= 1 then return ("That is node %d; the first one, please."):format(call.args[1]) end
        l.small = call.result
        return true
      end,
      otherwise = "Not yet: k = 5, and the first node.",
      praise = function(l)
        local held = 0
        for _, bucket in ipairs(l.small.buckets) do held = held + #bucket.contacts end
        return ("Right: %d contacts in %d buckets, where node 1 of n has %d in %d. That is cheaper to keep, and less to fall back on when nodes die.")
          :format(held, #l.small.buckets, known(l.n:node(1)), #l.n:node(1).routing().buckets)
      end,
      answer = "net{nodes = 200, seed = 2, k = 5}:node(1).tree()",
      wrong = {
        { "n:node(1).tree()", "n itself" }, { "net{nodes = 10, seed = 2, k = 2}:node(1).routing()", "hold 2" },
        { "net{nodes = 100, k = 5}:node(1).tree()", "has 100 nodes" }, { "net{nodes = 200, k = 5}:node(2).tree()", "the first one" },
        { "net{nodes = 200, seed = 2, k = 5}", "There is the network" },
      },
    },
  },
  finish = "Near its own id a node knows everybody; far away it knows somebody who knows more.",
}
