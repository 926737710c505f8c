return {
  title = "Churn",
  network = { nodes = 200, seed = 6 },
  start = function(l)
    l.set.key = sha1("lesson 6")
    l.n:add(1, l.set.key, "still here")
    l.first = #l.n:holders(l.set.key)
  end,
  steps = {
    {
      tell = [[
People switch their computers off without a goodbye. n has 200 nodes, and under key
they keep a value, at the nodes that are nearest to it. n:kill(share) kills a share of the nodes, and
n:alive() lists those that are left.]],
      task = "Kill a third of them",
      hint = { "A third is 1/3: Lua can divide.", "n:kill(1/3)" },
      expects = { "number", "kill", "alive" },
      check = function(l)
        local alive = #l.n:alive()
        if alive > 140 and alive < 200 then return ("%d are still alive: kill some more, until about 133 are left."):format(alive) end
        if alive < 120 then return ("Only %d are left: that is more than a third. lesson.reset() brings them back."):format(alive) end
        if alive >= 200 then return end
        l.left = #l.n:holders(l.set.key)
        return true
      end,
      otherwise = "They are all alive still, and happy: n:kill(share).",
      praise = function(l) return ("%d nodes are left. The others do not know yet who is gone."):format(#l.n:alive()) end,
      answer = "n:kill(1/3)",
      wrong = {
        { "n:alive()", "happy" }, { "n:kill(0.05)", "still alive" },
        { "n:kill(0.9)", "more than a third" }, { "lesson.reset()" }, { "0", "happy" },
      },
    },
    {
      tell = "Nobody chose who dies: some of those that kept the value may be among them.",
      task = "How many living nodes still keep the value?",
      hint = { "n:holders(key) lists those that live.", "#n:holders(key)" },
      expects = { "number", "holders" },
      check = function(l, number)
        if number == #l.n:holders(l.set.key) then return true end
        if number == l.first then return "That is how many kept it before." end
        if l.call(number) then return "Those are they. How many?" end
      end,
      otherwise = "It is another number: ask n:holders.",
      praise = function(l) return ("Right: %d of %d are left. One is enough to save the value, if it is found."):format(#l.n:holders(l.set.key), l.first) end,
      answer = "#n:holders(key)",
      wrong = { { function(l) return tostring(l.first) end, "before" }, { "n:holders(key)", "How many?" }, { "0", "another number" } },
    },
    {
      tell = [[
Routing tables are full of the dead now. Is the value found all the same?
n:random() is the number of a node that lives.]],
      task = "Let a living node look for the value",
      hint = { "n:findvalue(i, key), with n:random() for i.", "n:findvalue(n:random(), key)" },
      expects = { "findvalue", "findnode", "trace" },
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        if not call.here or call.result.target ~= tohex(l.set.key) then return "That was a search for something else than key." end
        if not call.result.values then return "That finds nodes; findvalue finds the value." end
        if call.result.values[1] then return true end
        return "That found nothing. Too many are gone; lesson.reset() brings some back."
      end,
      otherwise = "findvalue finds the value.",
      praise = function(_, result)
        return ("Found, in %.0f ms. The lookup has to wait for the silent, but there are other copies, and other ways."):format(result.ms)
      end,
      answer = "n:findvalue(n:random(), key)",
      wrong = { { 'n:findvalue(n:random(), sha1("x"))', "something else" }, { "n:findnode(n:random(), key)", "finds nodes" } },
    },
    {
      tell = [[
Each hour a holder looks for the nodes that are nearest now and passes the value on.
n:run(seconds) lets virtual time pass.]],
      task = "Let time pass until the value has 20 homes again",
      hint = { "It comes once an hour, and an hour has 3600 seconds. Two of them are surely enough.", "n:run(7200)" },
      expects = { "number", "holders" },
      check = function(l)
        local holders = #l.n:holders(l.set.key)
        if holders >= 20 then return true end
        if holders == 0 then return "Nobody keeps it any more: that was too long, or too many died. lesson.reset() goes back." end
        if #l.calls("run") > 0 then return ("Not yet: %d keep it. Republishing comes once an hour."):format(holders) end
      end,
      otherwise = "No time has passed yet: n:run(seconds).",
      praise = function(l) return ("It was kept by %d, and is now kept by %d."):format(l.left, #l.n:holders(l.set.key)) end,
      answer = "n:run(7200)",
      wrong = { { "7200", "No time" }, { "n:run(1)", "Not yet" } },
    },
  },
  finish = "kademlua sim churn.lua lets a tenth of the nodes change each hour, with and without this.",
}
