local SEEKER, PUBLISHER, VALUE = 1, 200, "by two ways"
local SPAN = 4 -- hops in the question

local function is_holder(l, node)
  for _, i in ipairs(l.n:holders(l.set.key)) do
    if i == node then return true end
  end
  return false
end

-- The node at an address.
local function node_at(l, contact)
  for i = 1, 300 do
    if l.n:node(i).id == contact.id then return i end
  end
end

-- What is wrong with a call, if it should be a trace of `what` by the seeker, of key.
local function wrong_trace(l, call, what)
  if call.name ~= "trace" then return "That is the result without the way; put trace before it." end
  if not call.here then return "That was in another network than n." end
  local is_route = call.result.attempts ~= nil
  if is_route ~= (what == "route") then return ("That is the other way; this step is about %s."):format(what) end
  if (call.result.target or call.result.key) ~= tohex(l.set.key) then return "That was for something else than key." end
  if call.args[2] ~= SEEKER then return ("Let node %d ask."):format(SEEKER) end
end

local traces = { "trace", "findvalue", "findnode", "route" }

return {
  title = "Two ways to a key",
  network = { nodes = 300, seed = 11, latency = { 20, 80 } },
  start = function(l)
    -- A key that the seeker neither holds nor is told of by its first contact.
    local name = "lesson 10"
    while not l.set.key or is_holder(l, SEEKER) or #l.n:route(SEEKER, l.set.key).attempts == 0 do
      l.set.key = sha1(name)
      l.n:add(PUBLISHER, l.set.key, VALUE)
      name = name .. "!"
    end
  end,
  steps = {
    {
      tell = [[
There are two ways to a key. One you know: whoever looks for something asks a node,
which names nearer ones, and asks these, until one has it. That is iterative: every
answer comes back to the one who asks, who needs to know how all of it works.
Node 200 of n has stored something under key.]],
      task = "Trace how node 1 finds it by asking",
      hint = { "trace takes the function first, and then its arguments.", "n:trace(findvalue, 1, key)" },
      expects = traces,
      check = function(l, result)
        local call = l.call(result)
        if not call then return end
        local wrong = wrong_trace(l, call, "findvalue")
        if wrong then return wrong end
        if call.result.call ~= "findvalue" then return "That finds nodes; a value is wanted." end
        l.asked = call.result
        return true
      end,
      otherwise = "A trace is wanted, of a search for the value.",
      praise = function(l)
        return ("Found, with %d datagrams in %.0f ms, and node 1 saw each of them."):format(l.asked.messages, l.asked.ms)
      end,
      answer = "n:trace(findvalue, 1, key)",
      wrong = {
        { "n:findvalue(1, key)", "without the way" }, { "n:trace(findnode, 1, key)", "a value is wanted" },
        { "n:trace(findvalue, 2, key)", "Let node 1 ask" }, { "n:trace(route, 1, key)", "the other way" },
      },
    },
    {
      tell = [[
The other way is recursive. A route is handed to a node nearer to the key, which hands
it on to one that is nearer still. Nobody on the way answers; only the last one does,
which has the value or knows nobody nearer. So a client can be thirty lines long, and
the handing on can be done by a kernel. The function is route, and its arguments are
those of findvalue.]],
      task = "Trace how a route from node 1 gets there",
      hint = { "As before, with the other function.", "n:trace(route, 1, key)" },
      expects = traces,
      check = function(l, result)
        local call = l.call(result)
        if not call then return end
        if call.name == "route" then return "It got there. Put trace before it, to see the way." end
        local wrong = wrong_trace(l, call, "route")
        if wrong then return wrong end
        l.routed = call.result
        return true
      end,
      otherwise = "A trace is wanted, of a route.",
      praise = function(l)
        return ("The lines with digits are the nodes that it passed, node 1 first. %d datagrams in %.0f ms; by asking it took %d.")
          :format(l.routed.messages, l.routed.ms, l.asked.messages)
      end,
      answer = "n:trace(route, 1, key)",
      wrong = {
        { "n:route(1, key)", "Put trace before it" }, { "n:trace(findvalue, 1, key)", "the other way" },
        { 'n:trace(route, 1, sha1("x"))', "something else" }, { "n:trace(route, 3, key)", "Let node 1 ask" },
      },
    },
    {
      tell = [[
In a network of a million nodes a route may be handed on four times, first by the
node that sends it. The last one answers to that node at once.]],
      task = "How many datagrams is that, if nothing is lost?",
      hint = { "One for each time that it is handed on, and then?", "The answer is a datagram, too." },
      expects = { "number" },
      check = function(_, result)
        if result == SPAN + 1 then return true end
        if result == SPAN then return "Almost: somebody has to say what was found." end
        if result == 2 * SPAN then return "That would be asking: there each question has an answer of its own." end
        if math.type(result) then return "Count what is sent: each handing on, and what comes back." end
      end,
      otherwise = "A number is wanted.",
      praise = "Asking would take eight, and more, since several are asked at once to be sure.",
      answer = "5",
      wrong = { { "4", "somebody has to say" }, { "8", "each question has an answer" }, { "7", "Count what is sent" } },
    },
    {
      enter = function(l)
        l.n:kill { node_at(l, l.routed.attempts[1].to) }
      end,
      tell = [[
Handing on has its price: nobody acknowledges. The node to which node 1 handed the
route has just died, and nobody knows it yet. A route that gets no answer is sent
again, and then each node passes over the one nearest to the key.]],
      task = "Trace the route once more. How many tries did it need? Type the number",
      hint = { "The lines that begin with try.", "#n:trace(route, 1, key).attempts" },
      expects = { "number", "trace" },
      check = function(l, result)
        local call = l.call(result)
        if call then return wrong_trace(l, call, "route") or "That is the trace. And the number of tries?" end
        if not math.type(result) then return end
        local calls = l.calls("trace")
        local last = calls[#calls]
        if not last or not last.result.attempts then return "Trace it first: the number may surprise you." end
        if result == #last.result.attempts then return true end
        return "Count the lines of the trace that begin with try."
      end,
      otherwise = "A number is wanted.",
      praise = "A search would hardly have noticed: it asks three at a time. That is why a route that fails ends in a search.",
      answer = "#n:trace(route, 1, key).attempts",
      wrong = { { "2", "Trace it first" }, { "n:trace(route, 1, key)", "the number of tries" }, { "9", "begin with try" } },
    },
  },
  finish = "kademlua sim route.lua compares the two in networks of up to 10,000 nodes. examples/thin.py is a client of thirty lines.",
}
