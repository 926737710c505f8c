return {
  title = "Storing, expiry and republishing",
  network = { nodes = 100, seed = 5, expire = 7200, republish = 1800 },
  start = function(l) l.set.key = sha1("lesson 5") end,
  steps = {
    {
      tell = [[
To store a value, a node looks for the k nodes nearest to the key and gives each of
them a copy. n has 100 nodes and k = 20. To save time, values live for two hours in
this network; usually it is a day.]],
      task = 'Store something from node 1: n:add(1, key, "hello")',
      hint = 'n:add(1, key, "hello")',
      check = function(l, result)
        if type(result) ~= "table" or not result.stored then return end
        if #l.n:holders(l.set.key) > 0 then return true end
        return "That went to another key than key."
      end,
      answer = 'n:add(1, key, "hello")',
      wrong = { { 'n:add(1, sha1("key"), "hello")', "another key" } },
    },
    {
      tell = "n:holders(key) tells what no node knows: the numbers of all that keep it.",
      task = "How many keep it? #n:holders(key)",
      hint = "#n:holders(key)",
      check = function(l, number)
        if number == #l.n:holders(l.set.key) then return true end
        if type(number) == "number" then return "That is not how many keep it." end
      end,
      answer = "#n:holders(key)",
      wrong = { { "1", "not how many" } },
    },
    {
      tell = "Anybody can find it, asking nearer and nearer nodes until some have it.",
      task = "Let another node look: n:findvalue(50, key)",
      hint = "n:findvalue(50, key)",
      check = function(l, result)
        if type(result) ~= "table" or not result.values then return end
        if result.values[1] and result.values[1].value == "hello" then return true end
        return 'That found no "hello".'
      end,
      answer = "n:findvalue(50, key)",
      wrong = { { 'n:findvalue(50, sha1("nothing"))', "found no" } },
    },
    {
      tell = [[
Holders pass copies on to the nodes that are then nearest, here every half hour: that
mends what dies. But a copy keeps its age. What nobody publishes anew is forgotten.
n:run(seconds) lets virtual time pass.]],
      task = "Let three hours pass: n:run(3 * 3600)",
      hint = "n:run(3 * 3600)",
      check = function(l, now)
        if #l.n:holders(l.set.key) == 0 then return true end
        if type(now) == "number" and now == l.n:stats().time then return "Some keep it still. More time must pass." end
      end,
      praise = "Nobody keeps it any more. Who wants a value to last publishes it again.",
      answer = "n:run(3 * 3600)",
      wrong = { { "n:run(3600)", "More time" } },
    },
  },
  finish = "So nothing has to be deleted, and nobody has to remember who stored what.",
}
