return {
  title = "The routing table",
  network = { nodes = 200, seed = 2 },
  steps = {
    {
      tell = [[
Nobody in a large network can know everybody. A Kademlia node knows many nodes near
to its own id and few of those far away. It sorts them into buckets: bucket 0 for
ids that differ in the first bit, which is half of the world; bucket 1 for those that
share one bit, a quarter of the world; and so on. A bucket has room for k = 20.

n is a network of 200 nodes.]],
      task = "Look at a routing table: n:node(1).routing()",
      hint = "n:node(1).routing()",
      check = function(l, result)
        if type(result) == "table" and result.buckets then return true end
        if type(result) == "table" and result[1] and result[1].failures then
          return "Those are the contacts without their buckets; take routing."
        end
      end,
      praise = function(l)
        local buckets = l.n:node(1).routing().buckets
        return ("%d buckets. The first holds %d contacts for half of the network."):format(#buckets, #buckets[1].contacts)
      end,
      answer = "n:node(1).routing()",
      wrong = { { "n:node(1).contacts()", "without their buckets" } },
    },
    {
      tell = "All of them together are the contacts of the node.",
      task = "How many of the 199 others does node 1 know? Type the number, or let Lua count",
      hint = "#n:node(1).contacts()",
      check = function(l, number)
        local known = #l.n:node(1).contacts()
        if number == known then return true end
        if type(number) == "number" then return "That is not how many contacts node 1 has." end
      end,
      praise = function(l)
        return ("Right: %d of 199. Each time a network doubles, a node needs room for at most 20 more."):format(#l.n:node(1).contacts())
      end,
      answer = "#n:node(1).contacts()",
      wrong = { { "199", "not how many" } },
    },
    {
      tell = [[
k is a setting. A network can be made with another one: net{nodes = 200, seed = 2,
k = 5} has buckets of 5.]],
      task = "Show the routing table of the first node of such a network",
      hint = "net{nodes = 200, seed = 2, k = 5}:node(1).routing()",
      check = function(l, result)
        if type(result) ~= "table" or not result.buckets then return end
        for _, bucket in ipairs(result.buckets) do
          if #bucket.contacts > 5 then return "There is a bucket with more than 5 contacts: that is not a network of k = 5." end
        end
        return true
      end,
      praise = "Right. Smaller tables, more buckets, and less to fall back on when nodes die.",
      answer = "net{nodes = 200, seed = 2, k = 5}:node(1).routing()",
      wrong = { { "n:node(1).routing()", "more than 5" } },
    },
  },
  finish = "Near its own id a node knows everybody; far away it knows somebody who knows more.",
}
