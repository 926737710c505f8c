-- A search by a node that keeps no copy itself.
local function from_elsewhere(l)
  local holds = {}
  for _, i in ipairs(l.n:holders(l.set.key)) do holds[i] = true end
  for i = 2, 100 do
    if not holds[i] then return ("n:findvalue(%d, key)"):format(i) end
  end
end

return {
  title = "Storing, expiry and republishing",
  network = { nodes = 100, seed = 5, expire = 7200, republish = 1800 },
  start = function(l) l.set.key = sha1("lesson 5") end,
  steps = {
    {
      tell = [[
To store a value, a node looks for the k nodes nearest to the key and gives each of
them a copy. n has 100 nodes and k = 20. To save time, values live for two hours in
this network; usually it is a day. n:add(i, key, value) stores from node i.]],
      task = 'Let node 1 store the text "hello" under key',
      hint = { 'Put 1 for i, and "hello" for the value; key is there already.', 'n:add(1, key, "hello")' },
      expects = { "add", "put" },
      check = function(l, result)
        local call = l.call(result)
        if not call or call.name ~= "add" and call.name ~= "put" then return end
        if not call.here then return "That was in another network than n." end
        if call.result.target ~= tohex(l.set.key) then return "That went to another key than key." end
        if call.args[3] ~= "hello" then return 'That is stored now, but it is not "hello".' end
        if call.args[1] ~= 1 then return ("Node %s has stored it. Let node 1 do it, it has time."):format(call.args[1]) end
        return #l.n:holders(l.set.key) > 0
      end,
      otherwise = "That stored nothing in the right place.",
      praise = "It is done: each node that was asked keeps a copy, and node 1 may go home.",
      answer = 'n:add(1, key, "hello")',
      wrong = {
        { 'n:add(1, sha1("key"), "hello")', "another key" }, { 'n:add(1, key, "hallo")', 'not "hello"' },
        { 'n:add(2, key, "hello")', "Let node 1" },
      },
    },
    {
      tell = "n:holders(key) tells what no node knows: the numbers of all that keep it.",
      task = "How many keep it?",
      hint = { "# before a list counts it.", "#n:holders(key)" },
      expects = { "number", "holders" },
      check = function(l, number)
        if number == #l.n:holders(l.set.key) then return true end
        if number == 1 then return "It was stored once, but not at one node only." end
        if number == 100 then return "Not everybody keeps everything; what would that be for?" end
        if l.call(number) then return "Those are they. How many?" end
      end,
      otherwise = "That is not how many keep it.",
      praise = function(l) return ("Right: %d. All of them would have to die to lose it."):format(#l.n:holders(l.set.key)) end,
      answer = "#n:holders(key)",
      wrong = { { "1", "not at one node" }, { "100", "everybody" }, { "n:holders(key)", "How many?" }, { "3", "not how many" } },
    },
    {
      tell = "Anybody can find it, asking nearer and nearer nodes until some have it: n:findvalue(i, key).",
      task = "Let a node find it that keeps no copy itself",
      hint = {
        "Any number from 1 to 100 that n:holders(key) does not list.",
        from_elsewhere,
      },
      expects = { "findvalue", "findnode", "trace" },
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        local found, asker = call.result, call.name == "trace" and call.args[2] or call.args[1]
        if not call.here or found.target ~= tohex(l.set.key) then return "That went to another key than key." end
        if not found.values then return "That finds nodes. findvalue looks for the value." end
        for _, i in ipairs(l.n:holders(l.set.key)) do
          if i == asker then return ("Node %d keeps a copy itself: no great search. Take one that keeps none."):format(i) end
        end
        if found.values[1] and found.values[1].value == "hello" then return true end
        return 'That found no "hello". lesson.reset() puts the network back to how the step began.'
      end,
      otherwise = "findvalue looks for the value.",
      praise = function(l, result)
        local found = l.call(result).result
        return ("Found, by %d questions, and nobody had to know that it was node 1 that had stored it."):format(#found.queries)
      end,
      answer = from_elsewhere,
      wrong = {
        { 'n:findvalue(50, sha1("nothing"))', "another key" }, { "n:findnode(50, key)", "finds nodes" },
        { function(l) return ("n:findvalue(%d, key)"):format(l.n:holders(l.set.key)[1]) end, "keeps a copy itself" },
      },
    },
    {
      tell = [[
Holders pass copies on to the nodes that are then nearest, here every half hour: that
replaces those that die. But a copy keeps its age. A value that nobody publishes anew is forgotten.
n:run(seconds) lets virtual time pass, as much as you like.]],
      task = "Let time pass until nobody keeps the value any more",
      hint = { "A value lives for two hours here, and an hour has 3600 seconds.", "n:run(3 * 3600)" },
      expects = { "number", "holders" },
      check = function(l)
        local holders = #l.n:holders(l.set.key)
        if holders == 0 and #l.n:alive() < 100 then return "That is one way, but a cruel one. lesson.reset() brings them back; let time do it." end
        if holders == 0 then return true end
        if #l.calls("run") > 0 then
          return ("%d keep it still, %.1f hours after the beginning. More time must pass."):format(holders, l.n:stats().time / 3600)
        end
      end,
      otherwise = "No time has passed yet: n:run(seconds).",
      praise = "Nobody keeps it any more. If a value should last, its publisher publishes it again.",
      answer = "n:run(3 * 3600)",
      wrong = { { "7200", "No time has passed" }, { "n:run(3600)", "More time" }, { "n:run(60)", "More time" } },
    },
  },
  finish = "So nothing has to be deleted, and nobody has to remember who stored what.",
}
