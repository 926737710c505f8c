-- What help() says about methods: of simulated networks (n = net{}), clusters (c = cluster()) and lessons. A test
-- runs each example, as it does those of help.lua.
--
-- Handed in: the entries of help.lua. A method that does the same for one node as a function does for the shell's
-- own has the words of that function, with the number of the node in front of its arguments.

local help = ...
local ipairs, format, insert = ipairs, string.format, table.insert

local methods = {
  {
    name = "n:run", args = "seconds", summary = "let virtual time pass",
    text = "Returns the time since the network began, in seconds. Hours of upkeep take a moment.",
    example = "local n = net{nodes = 20}\nassert(n:run(3600) >= 3600)",
  },
  {
    name = "n:join", args = "count, id=nil, bits=nil, ranges=nil", summary = "new nodes come",
    text = [[
The ids of the new nodes share `bits` bits with `id`, if both are given. `ranges` is a list of networks in which
their addresses lie, such as {"192.0.2.0/24"}; it may be the second argument. Returns a list of their numbers.]],
    example = 'local n = net{nodes = 20}\nn:join(3)\nn:join(2, sha1("key"), 16)\nassert(#n:alive() == 25)',
  },
  {
    name = "n:kill", args = "share", summary = "nodes die: a share of them, or a list",
    text = "A share of 0.3 is drawn by the network's seed; {3, 5} are the numbers of nodes. Returns a list of the dead.",
    example = "local n = net{nodes = 20}\nn:kill(0.3)\nn:kill{n:random()}\nassert(#n:alive() == 13)",
  },
  {
    name = "n:partition", args = "shares", summary = "the network falls into parts",
    text = [[
{0.5} makes two parts of the same size, {0.2, 0.3} makes three: the rest is one more. No datagram gets from one part to
another until n:heal().]],
    example = "local n = net{nodes = 20}\nn:partition{0.5}\nn:run(60)\nn:heal()",
  },
  {
    name = "n:heal", args = "", summary = "the parts are one network again",
    text = "Ends what n:partition began.",
    example = "local n = net{nodes = 20}\nn:partition{0.5}\nn:heal()",
  },
  {
    name = "n:loss", args = "share", summary = "this share of datagrams is lost",
    text = "From now on. Without an argument it only tells the share.",
    example = "local n = net{nodes = 20}\nassert(n:loss(0.2) == 0.2)",
  },
  {
    name = "n:lie", args = 'share, way=nil', summary = "a share of the nodes lies to searchers",
    text = [[
In one way: "drop" (no answer), "collude" (they name only each other), "garbage" (they name nodes that are not there);
or in turn. Searches on disjoint paths help: net{paths = 8}. Returns a list of the liars.]],
    choices = { way = { "drop", "collude", "garbage" } },
    example = 'local n = net{nodes = 20, paths = 4}\nn:lie(0.2, "drop")\nn:findnode(1, sha1("key"))',
  },
  {
    name = "n:spoof", args = "i, id, j", summary = "node i gets a ping with a forged sender",
    text = "The ping claims to come from node j, with this id.",
    example = 'local n = net{nodes = 20}\nn:spoof(1, sha1("nobody"), 2)',
  },
  {
    name = "n:alive", args = "", summary = "the numbers of the nodes that are alive",
    text = "A list, in order.",
    example = "local n = net{nodes = 20}\nassert(#n:alive() == 20)",
  },
  {
    name = "n:random", args = "", summary = "the number of a node that is alive",
    text = "The same seed draws the same numbers.",
    example = 'local n = net{nodes = 20}\nn:findnode(n:random(), sha1("key"))',
  },
  {
    name = "n:holders", args = "key", summary = "the numbers of the nodes that keep a key",
    text = "A list, in order: only somebody who sees the whole network knows it.",
    example = 'local n = net{nodes = 50}\nn:add(1, sha1("key"), "value")\nassert(#n:holders(sha1("key")) >= 20)',
  },
  {
    name = "n:stats", args = "what=nil", summary = "what lookups and stores have cost",
    text = [[
The result has `count` and `success` (a share) of all lookups and stores that have ended, lists of the `hops`, `messages`
and `ms` of each, `alive`, `nodes`, `time`, `datagrams`, `bytes`, `loss` and `seed`. n:stats("reset") begins to count anew.]],
    choices = { what = { "reset" } },
    example = 'local n = net{nodes = 50}\nn:findnode(1, sha1("key"))\nhist(n:stats().hops)',
  },
  {
    name = "n:node", args = "i", summary = "a node, with the functions of the shell",
    text = [[
The result has the `number` and `id` of the node, and each function that asks a node: with me = n:node(3), me.routing()
or me:routing(), me.findvalue(key), me.tree(), me.node() and so on; see help(findvalue) and the like.]],
    example = 'local me = net{nodes = 20}:node(3)\nassert(#me.routing().buckets > 0 and me.node().id == me.id)',
  },
  {
    name = "c:status", args = "", summary = "all nodes of the cluster, in a list",
    text = [[
Each with `port`, `process`, `alive` and, while it answers, `id`, `contacts`, `estimate` and `values`.]],
    example = "local c = cluster(2)\nassert(c:status()[2].alive)\nc:stop()",
  },
  {
    name = "c:kill", args = "i", summary = "end a node, as kill -9 does",
    text = "c:start(i) starts it again.",
    example = "local c = cluster(2)\nc:kill(1)\nassert(not c:status()[1].alive)\nc:stop()",
  },
  {
    name = "c:start", args = "i", summary = "start a node that was killed",
    text = "On its port, with its state if the cluster was made to keep it: cluster(20, true).",
    example = "local c = cluster(2)\nc:kill(1)\nc:start(1)\nassert(c:status()[1].alive)\nc:stop()",
  },
  {
    name = "c:stop", args = "", summary = "end all nodes of the cluster",
    text = "The end of the shell does it too.",
    example = "local c = cluster(2)\nc:stop()",
  },
  {
    name = "lesson.again", args = "", summary = "repeat what to do",
    text = "Shows the current step of the lesson once more.",
    example = "lesson(1) lesson.again() lesson.quit()",
  },
  {
    name = "lesson.next", args = "", summary = "show how a step is done, and do it",
    text = "Types the answer of the current step. A step that is passed this way does not count as yours.",
    example = "lesson(1) lesson.next() lesson.quit()",
  },
  {
    name = "lesson.reset", args = "", summary = "put everything back to how the step began",
    text = "The network and the names that the lesson made are as they were.",
    example = "lesson(1) lesson.reset() lesson.quit()",
  },
  {
    name = "lesson.quit", args = "", summary = "end the lesson",
    text = "What it has made stays: play on.",
    example = "lesson(1) lesson.quit()",
  },
  {
    name = "lesson.test", args = "number, seed=nil", summary = "try the answers of a lesson",
    text = "For authors of lessons: each answer must pass, each wrong one must get its word. Anything that does not hold is an error.",
    example = "lesson.test(1)",
  },
}

-- One node of many: the function, and an example for a network and for a cluster where it has that method.
local asked = {
  { "add", '%s:add(1, sha1("key"), "value")', "nc" },
  { "put", '%s:put(1, sha1("key"), "value")', "nc" },
  { "findvalue", '%s:add(1, sha1("key"), "value")\nassert(%s:findvalue(2, sha1("key")).values[1].value == "value")', "nc" },
  { "route", '%s:add(1, sha1("key"), "value")\nassert(%s:route(2, sha1("key")).found)', "nc" },
  { "findnode", '%s:findnode(1, sha1("key"))', "nc" },
  { "trace", '%s:trace(findnode, 1, sha1("key"))', "nc", "function, i, ..." },
  { "lookups", '%s:findnode(1, sha1("key"))\nassert(%s:lookups(1)[1].cause == "search")', "nc" },
  { "ping", "%s:ping(1, %s:contacts(1)[1])", "nc" },
  { "getsocket", "%s:getsocket(1, %s:contacts(1)[1])", "nc" },
  { "bootstrap", "%s:bootstrap(1, %s:contacts(1)[1])", "nc" },
  { "contacts", "%s:contacts(1)[1].id", "nc" },
  { "routing", "#%s:routing(1).buckets", "nc" },
  { "tree", '%s:tree(1, sha1("key"))', "nc" },
  { "ring", "%s:ring(1)", "nc" },
  { "estimate", "%s:estimate(1).nodes", "nc" },
  { "node", "%s:node(1).id", "c" },
  { "settings", "%s:settings(1)", "nc" },
  { "packets", "%s:packets(1, {n = 3})", "nc" },
}
local owners = {
  { letter = "n", start = "local n = net{nodes = 20}\n", stop = "" },
  { letter = "c", start = "local c = cluster(2)\n", stop = "\nc:stop()" },
}
local entry_of = {}
for _, entry in ipairs(help) do entry_of[entry.name] = entry end

for _, owner in ipairs(owners) do
  for _, method in ipairs(asked) do
    local base, letter = entry_of[method[1]], owner.letter
    if method[3]:find(letter, 1, true) then
      local rest = base.args == "" and "i" or "i, " .. base.args
      local example = method[2]:gsub("%%s", letter)
      -- An expression is no statement.
      if not example:find("%)$") or example:find("^#") then example = "assert(" .. example .. ")" end
      insert(methods, {
        name = letter .. ":" .. base.name, args = method[4] or rest, summary = base.summary,
        text = format("Done by node i. See help(%s).", base.name), choices = base.choices,
        example = owner.start .. example .. owner.stop,
      })
    end
  end
end

return methods
