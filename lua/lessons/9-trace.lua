local SEEKER, PUBLISHER, VALUE = 1, 150, "lost letter"

-- How many rows of a trace ended with `outcome`.
local function ended(trace, outcome)
  local count = 0
  for _, query in ipairs(trace.queries) do
    if query.outcome == outcome then count = count + 1 end
  end
  return count
end

local function is_holder(l, node)
  for _, i in ipairs(l.n:holders(l.set.key)) do
    if i == node then return true end
  end
  return false
end

-- The nodes that cannot hear the seeker any more: all that keep the value, and most of the others.
local function far_side(l)
  local far, is_far = {}, {}
  for _, i in ipairs(l.n:holders(l.set.key)) do is_far[i] = i ~= SEEKER end
  for i = 1, 200 do
    if is_far[i] or i % 3 ~= 1 then
      far[#far + 1] = i
      is_far[i] = true
    end
  end
  return far, is_far
end

-- What is wrong with a trace, if it should be the seeker's for the value of key.
local function wrong_trace(l, call)
  if call.name ~= "trace" then return "That is the result without the way; put trace before it." end
  if not call.here then return "That was in another network than n." end
  if call.result.call ~= "findvalue" then return ("That traces a %s. You are looking for a value."):format(call.result.call) end
  if call.result.target ~= tohex(l.set.key) then return "The first line tells the target: that was not key." end
  if call.args[2] ~= SEEKER then return ("Node %s has no trouble with it, or other trouble. Trace node %d."):format(call.args[2], SEEKER) end
end

local traces = { "trace", "findvalue", "findnode" }

return {
  title = "Reading a trace",
  network = { nodes = 200, seed = 10, latency = { 20, 80 } },
  start = function(l)
    -- A key whose value the seeker does not keep itself: its search has to go out.
    local name = "lesson 9"
    while not l.set.key or is_holder(l, SEEKER) do
      l.set.key = sha1(name)
      l.n:add(PUBLISHER, l.set.key, VALUE)
      name = name .. "!"
    end
  end,
  steps = {
    {
      tell = [[
A lookup that fails says little: "nothing found". Its trace says why. It has a line
for each question, and many columns; the help explains what they mean.]],
      task = "Read it: help(trace)",
      hint = "help(trace)",
      expects = { "help", "trace", "text" },
      check = function(l, result)
        local call = l.call(result)
        if not call or call.name ~= "help" then return end
        local text = call.result.text
        if string.find(text, "^trace%(") then return true end
        return "That is help, but not about trace."
      end,
      otherwise = "Read the help first; it is short.",
      praise = "Keep it in mind, or read it again: the lesson waits.",
      answer = "help(trace)",
      wrong = { { "help()", "not about trace" }, { "help(ring)", "not about trace" }, { "n:trace(findvalue, 1, key)", "Read the help first" } },
    },
    {
      tell = [[
n has 200 nodes. Node 150 has stored a letter under key, and all is well: let us see
first how a trace looks when nothing is wrong. n:trace(findvalue, i, key) makes one.]],
      task = "Trace how node 1 finds the letter",
      hint = { "i is 1; key is there already.", "n:trace(findvalue, 1, key)" },
      expects = traces,
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        local wrong = wrong_trace(l, call)
        if wrong then return wrong end
        if not call.result.values[1] then return "It found nothing: something has happened to n. lesson.reset() puts it back." end
        l.healthy = call.result
        return true
      end,
      otherwise = "Put trace before it.",
      praise = function(l)
        local answered, silent = ended(l.healthy, "answered"), ended(l.healthy, "timed out")
        return ("Found, in %.0f ms: %d answers were enough, and %s ended in silence. It did not wait for those that are still pending.")
          :format(l.healthy.ms, answered, silent == 0 and "no question" or silent .. " of the questions")
      end,
      answer = "n:trace(findvalue, 1, key)",
      wrong = {
        { "n:findvalue(1, key)", "without the way" }, { "n:trace(findnode, 1, key)", "traces a findnode" },
        { 'n:trace(findvalue, 1, sha1("x"))', "not key" }, { "n:trace(findvalue, 2, key)", "Trace node 1" },
      },
    },
    {
      enter = function(l)
        local far
        far, l.is_far = far_side(l)
        l.n:partition { far }
      end,
      tell = [[
The next morning node 1 looks for its letter again, and there is none. The key is the
same. Nobody has deleted anything; nobody could.]],
      task = "Trace the same search again. How many of its questions timed out? Type the number",
      hint = {
        "The same line as before. The column rtt shows how each question ended; count those that timed out.",
        [[
t = n:trace(findvalue, 1, key)
count = 0
for _, q in ipairs(t.queries) do
  if q.outcome == "timed out" then count = count + 1 end
end
return count]],
      },
      expects = { "number", "trace", "findvalue", "findnode" },
      check = function(l, number)
        local call = l.call(number)
        if call and call.result.target then
          local wrong = wrong_trace(l, call)
          if wrong then return wrong end
          return "Nothing found, and much silence. How many of the questions timed out?"
        end
        local traced = {}
        for _, trace in ipairs(l.calls("trace")) do
          if not wrong_trace(l, trace) then traced[#traced + 1] = trace.result end
        end
        if #traced == 0 then return type(number) == "number" and "Trace it first: the trace knows." or nil end
        for _, trace in ipairs(traced) do
          if number == ended(trace, "timed out") then
            l.broken = trace
            return true
          end
        end
        for _, trace in ipairs(traced) do
          if number == #trace.queries then return "That is how many were asked; some of these have answered." end
          if number == ended(trace, "answered") then return "That is how many have answered. And the others?" end
        end
      end,
      otherwise = "Count the lines that say timed out.",
      praise = function(l)
        return ("Right: %d of %d. Yesterday all was well. The nodes that still answer have nothing, and name others that are silent, too.")
          :format(ended(l.broken, "timed out"), #l.broken.queries)
      end,
      answer = [[t = n:trace(findvalue, 1, key) count = 0
        for _, q in ipairs(t.queries) do if q.outcome == "timed out" then count = count + 1 end end return count]],
      wrong = {
        { "7", "Trace it first" }, { "n:findvalue(1, key)", "without the way" }, { "n:trace(findvalue, 1, key)", "much silence" },
        { "#n:trace(findvalue, 1, key).queries", "how many were asked" }, { "1000", "Count the lines" },
      },
    },
    {
      tell = [[
Silence has three causes: the node is dead; datagrams get lost on the way; or the
way is cut. The first is easy to look into, for somebody who sees the whole network:
n:alive() lists the nodes that live.]],
      task = "Have the silent nodes died? Type true or false",
      hint = { "There were 200 nodes. How many live?", "#n:alive() is 200: nobody has died. So: false" },
      expects = { "boolean", "number", "alive", "text" },
      check = function(l, answer)
        local call = l.call(answer)
        if answer == false then return true end
        if answer == true then return "So one would think. But count the living: #n:alive()." end
        if call and call.name == "alive" or answer == #l.n:alive() then return "That is how many live. Have any died, then?" end
      end,
      otherwise = "The answer is true or false.",
      praise = "Right: all 200 live. They are not dead, and they are not heard.",
      answer = "false",
      wrong = { { "true", "count the living" }, { "#n:alive()", "Have any died" }, { "n:alive()", "Have any died" }, { '"no"', "true or false" } },
    },
    {
      tell = [[
If datagrams got lost by chance, each node would be silent now and then. But the same
nodes stay silent, however often one asks. So the way to them is cut, and node 1 is on
one side of the cut. The letter must be on the other: somebody there still finds it.]],
      task = "Who? Type the number of a node, from 1 to 200, that finds the letter",
      hint = {
        "Try some: n:findvalue(i, key). A loop may try all of them, and print those that find a value.",
        "for i = 1, 200 do if n:findvalue(i, key).values[1] then print(i) end end\nand take one of them.",
      },
      expects = { "number", "findvalue", "holders", "trace" },
      check = function(l, number)
        local call = l.call(number)
        if call and call.name == "holders" then return "Those keep it. Type the number of one of them." end
        if call and call.result.values then
          return call.result.values[1] and "That one has found it. Type its number." or "That one finds nothing, as node 1 does."
        end
        if math.type(number) ~= "integer" then return end
        if number < 1 or number > 200 then return "The nodes have the numbers 1 to 200." end
        if number == SEEKER then return "Node 1 is the one that does not find it." end
        if l.is_far[number] then
          return l.n:findvalue(number, l.set.key).values[1] and true
            or ("Node %d is on the other side, but has not found it either. Try another."):format(number)
        end
        return ("Node %d is on the side of node 1, and finds nothing either."):format(number)
      end,
      otherwise = "Type the number of a node.",
      praise = "Right. That one is on the other side, with all that keep the letter.",
      answer = function(l)
        for i = 2, 200 do
          if l.is_far[i] then return tostring(i) end
        end
      end,
      wrong = {
        { "1", "does not find it" }, { "4", "the side of node 1" }, { "201", "1 to 200" }, { "n:findvalue(1, key)", "finds nothing" },
        { function(l) return ("n:findvalue(%d, key)"):format(l.n:holders(l.set.key)[1]) end, "Type its number" },
        { "n:holders(key)", "one of them" },
      },
    },
    {
      tell = [[
So that is it: the network is in two parts, as when a cable under the sea breaks. Both
go on, each without the other. In a simulation cables can be mended; help(net) tells
how a network falls apart, and how it comes together again.]],
      task = "Mend it, and show that node 1 finds its letter",
      hint = { "Look for the line about partition in help(net).", "n:heal() return n:findvalue(1, key)" },
      expects = { "findvalue", "trace", "findnode", "number", "heal" },
      check = function(l, result)
        local call = l.call(result)
        if not call or not call.result.target then return end
        if not call.here or call.result.target ~= tohex(l.set.key) then return "That was a search for something else than key." end
        if not call.result.values then return "That finds nodes. The letter is a value." end
        local asker = call.name == "trace" and call.args[2] or call.args[1]
        if asker ~= SEEKER then return ("Node %s is not the one that waits for the letter. Node 1 is."):format(asker) end
        if call.result.values[1] and call.result.values[1].value == VALUE then return true end
        if #l.calls("heal") > 0 then return "Mended, but not found yet. Give them a minute, with n:run(60), and look again." end
        return "Nothing yet: the network is still in two parts."
      end,
      otherwise = "Mend it, and let node 1 look for the value.",
      praise = function(_, result)
        return ("There is the letter, in %.0f ms. Nobody had lost it; it was only out of reach."):format(result.ms)
      end,
      answer = "n:heal() return n:findvalue(1, key)",
      wrong = {
        { "n:findvalue(1, key)", "still in two parts" }, { "n:findnode(1, key)", "finds nodes" },
        { function(l) return ("n:findvalue(%d, key)"):format(l.n:holders(l.set.key)[1]) end, "Node 1 is" },
        { 'n:findvalue(1, sha1("x"))', "something else" }, { "7", "Mend it" },
      },
    },
  },
  finish = [[
Read it from the top: first the target, then which nodes were asked, which stayed silent, and which named which.
A failed search is never only a failed search. On a real node it is trace(findvalue, key),
and lookups() lists the last ones that have ended.]],
}
