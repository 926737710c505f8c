return {
  title = "Churn",
  network = { nodes = 200, seed = 6 },
  start = function(l)
    l.set.key = sha1("lesson 6")
    l.n:add(1, l.set.key, "still here")
  end,
  steps = {
    {
      tell = [[
People switch their computers off without a goodbye. n has 200 nodes, and under key
they keep a value at the 20 nearest.]],
      task = "Kill a third of them: n:kill(1/3)",
      hint = "n:kill(1/3)",
      check = function(l, dead)
        local alive = l.n:stats().alive
        if alive <= 140 then return true end
        if alive < 200 then return ("%d are still alive: kill some more."):format(alive) end
      end,
      praise = function(l)
        l.left = #l.n:holders(l.set.key)
        return ("%d nodes are left, and %d of those that keep the value."):format(l.n:stats().alive, l.left)
      end,
      answer = "n:kill(1/3)",
      wrong = { { "n:kill(0.05)", "still alive" } },
    },
    {
      tell = "Routing tables are full of the dead now. Is the value found all the same?",
      task = "Let a living node look: n:findvalue(n:random(), key)",
      hint = "n:findvalue(n:random(), key)",
      check = function(l, result)
        if type(result) ~= "table" or not result.values then return end
        if result.values[1] then return true end
        return "That found nothing. Is it the right key?"
      end,
      praise = "Slower, as silence has to be waited for, but found: other copies, other ways.",
      answer = "n:findvalue(n:random(), key)",
      wrong = { { 'n:findvalue(n:random(), sha1("x"))', "the right key" } },
    },
    {
      tell = [[
Each hour a holder looks for the nodes that are nearest now and passes the value on.
After that it should have its 20 homes again.]],
      task = "Let two hours pass: n:run(7200)",
      hint = "n:run(7200)",
      check = function(l, now)
        if #l.n:holders(l.set.key) >= 20 then return true end
        if now == l.n:stats().time then return "Not yet: republishing comes once an hour." end
      end,
      praise = function(l)
        return ("It was kept by %d, and is now kept by %d."):format(l.left, #l.n:holders(l.set.key))
      end,
      answer = "n:run(7200)",
      wrong = { { "n:run(1)", "Not yet" } },
    },
  },
  finish = "kademlua sim churn.lua lets a tenth of the nodes change each hour, with and without this.",
}
