-- What help() says: the functions of the shell, in the order in which one meets them. Each
-- example is run by a test in a small network whose nodes start at port 8003.
--
-- Hints and completion read `args` too: the name of an argument says what is offered for it (`contact`, `key`, `id`,
-- `file`). `choices` are the words that an argument or setting may be, `settings` the names in a table that is an
-- argument; `methods` are the methods of the result that the entry lists.

local native = ...

local rpcs = { "ping", "findnode", "findvalue", "store", "getsocket" }
local filter = { "rpc", "peer", "kind", "direction", "call" }
local filter_choices = {
  rpc = rpcs, direction = { "in", "out" }, kind = { "request", "answer", "no such rpc", "failure", "malformed" },
}
local net_settings = { "nodes", "seed", "latency", "loss", "addresses" }
table.move(native.setting_names, 1, #native.setting_names, #net_settings + 1, net_settings)

local help = {
  {
    name = "help", args = "name=nil", summary = "list all functions, or explain one",
    text = "Without an argument it lists all functions of the shell, one line each.",
    example = 'help("findvalue")',
  },
  {
    name = "add", args = "key, value", summary = "store a value beside those of other nodes",
    text = [[
The value is stored at the nodes nearest to the key, where anybody finds it for a day. One key
holds one value of each node that added one. A value is a string, a whole number of at most 14
digits, or a table of these.
The result has `stored`, `refused` and `silent` (nodes), `kept_here`, `ms`, `hops`, `messages`, and
the way it took; see help(trace). One owner may hold many addresses of a subnet (/24, in IPv6 /48):
the `public` holders, those whose addresses anybody can reach, lie in that many `subnets`, and
`few_subnets` is true if these are fewer than half as many.]],
    example = 'add(sha1("key"), "value")',
  },
  {
    name = "put", args = "key, value", summary = "store a value in place of one's own earlier ones",
    text = [[
Like add, but copies of earlier values of this node, which other nodes passed on, are dropped
as well. Values of other nodes stay.]],
    example = 'put(sha1("key"), {name = "a table", list = {1, 2, 3}})',
  },
  {
    name = "findvalue", args = "key, maxnodes=3, maxentries=6", summary = "find the values under a key",
    text = [[
Asks nodes nearer and nearer to the key until `maxnodes` of them have answered with values, at
most `maxentries` each, or none is left to ask. A node that has more chooses fairly among them;
`maxentries` may be "all".
The result has `values`, a list with `value`, `who` has it, `hops` and `ms` each; `more`, how many
further values there are, at least; `nodes`, the nearest that answered; `ms`, `hops`, `messages`;
and the way the search took; see help(trace).]],
    choices = { maxentries = { "all" } },
    example = 'add(sha1("key"), "value")\nfor _, hit in ipairs(findvalue(sha1("key")).values) do print(hit.value) end',
  },
  {
    name = "route", args = "key, kind=\"findvalue\"", summary = "let a request find its way to a key",
    text = [[
Hands one datagram to the contact nearest to the key, which hands it on to one that is nearer still, until a
node holds values under the key or knows nobody nearer. That one answers, by way of this node. An attempt that is
not answered is followed by two that pass over the nearest contacts, and then by an ordinary search.
`kind` may be "locate", which ends at the nearest node whatever it holds.
The result has `found`, `values` (or `located`, or `held_at` where they do not fit), `by`, the id of who
answered, `attempts` with `to`, `skip`, `ms`, `is_answered` each, `fallback`, the search if there was one,
`hops`, `messages`, `ms`. trace(route, key) has the nodes leave their marks: `hops` of an attempt, with the
first digits of each `id` and the `micros` of its clock, 0 where that is another machine's.]],
    choices = { kind = { "findvalue", "locate" } },
    example = 'add(sha1("key"), "value")\nassert(route(sha1("key")).values[1] == "value")',
  },
  {
    name = "findnode", args = "id", summary = "find the nodes nearest to an id",
    text = "The result has `nodes`, nearest first, `ms`, `hops`, `messages`, and the way; see help(trace).",
    example = 'findnode(sha1("8003"))',
  },
  {
    name = "trace", args = "function, ...", summary = "what a search or store did, query by query",
    text = [[
Calls findnode, findvalue, add or put (or route, see there) and shows its result query by query: round (rnd), when sent, round
trip, which node was asked, the leading bits that its id shares with the target, which query had named it,
how many of the contacts that it named were new, and the bits of the nearest contact known,
before>after.
Below comes the tree of which node named which; nodes that led to the result have a star.
The result is that of the function, with `queries`, each with `who`, `introduced_by` (nil: the
own table), `hop`, `round`, `sent` and `ms`, `outcome` ("answered", "timed out", "failed", "pending"
when the search ended), `bits`, `bits_before`, `bits_after`, `contacts`, `new`, `values`,
`bytes_sent`, `bytes_received`; and `call`, `target`, `cause`, `rounds`, `hops`, `messages`,
`bytes_sent`, `bytes_received`, `ms`, `ended` (why). add and put have `deliveries` too: `who`,
`sent`, `ms`, `tries` and `answers` (two if a holder asked for a token first), `outcome`
("stored", "refused", "timed out"), `reason`.]],
    example = 'local story = trace(findnode, sha1("8003"))\nfor _, query in ipairs(story.queries) do print(query.who, query.ms) end',
  },
  {
    name = "lookups", args = "", summary = "the last lookups, those of its own upkeep too",
    text = [[
The latest first, each with everything that help(trace) explains, how many seconds `ago` it ended, and
its `cause`: "search" (somebody asked for it), "store", "pass on" (of values that it keeps), "join" or
"refresh" (of its routing table). lookups()[1] shows the latest as trace does.]],
    example = "for _, lookup in ipairs(lookups()) do print(lookup.cause, lookup.ended) end",
  },
  {
    name = "ping", args = "contact", summary = "ask a node whether it is there",
    text = [[
A contact is a port of 127.0.0.1, "address:port", or one that another function returned.
The result has `who` and `ms`. A node that does not answer is an error.]],
    example = "ping(8003).ms",
  },
  {
    name = "getsocket", args = "contact", summary = "ask a node at which address it sees this one",
    text = "The result has `address`, `port`, `who` and `ms`.",
    example = "getsocket(8003).port",
  },
  {
    name = "bootstrap", args = "contact, ...", summary = "join a network through nodes that are in it",
    text = [[
A contact may also be "host:port", or a list of contacts; all addresses of a host count. The result
has `answered`, how many did, and `silent`, a list of those that did not. The node keeps in touch with
them, so that two networks that are told of each other become one.]],
    example = "bootstrap(8003)",
  },
  {
    name = "contacts", args = "", summary = "all nodes that this one knows",
    text = "A list of contacts with `address`, `port`, `id`, `rtt` in ms, `seen` (seconds ago) and `failures`.",
    example = "for _, contact in ipairs(contacts()) do print(contact.port, contact.id) end",
  },
  {
    name = "routing", args = "", summary = "the routing table, bucket by bucket",
    text = [[
The result has the own `id`, `k` and `buckets`, each with `prefix_bits` (leading bits that its ids
share with this node's), `prefix` (all bits with which they begin), its `first` and `last` id,
`is_last` (whether all nearer ids are in it too), `room`, `contacts`, `replacements` (contacts that wait for
a place) and `idle` (seconds since something was looked up there).]],
    example = "#routing().buckets",
  },
  {
    name = "tree", args = "key=nil", summary = "the routing table as the trie that it is",
    text = [[
One line for each bucket: at the left the own id's way down, to the right the bucket that branches off from
it, how full it is and which ids belong there. With a key, the bucket of the key is marked and the
known contacts nearest to it follow, with their distances in binary.
The result is that of routing; with a key it also has `key`, `bucket` (its number in `buckets`) and
`nearest`, a list with `who`, `distance` in hex digits and shared `bits` each.]],
    example = 'tree(sha1("key")).nearest[1].who',
  },
  {
    name = "ring", args = "", summary = "where in the id space the known ids lie",
    text = "The result has `id`, `at` (from 0 to 1) and `known`, a list with `id` and `at` each.",
    example = "#ring().known",
  },
  {
    name = "estimate", args = "", summary = "how many nodes there are, and how that is known",
    text = [[
Every lookup shows how near to its target the nodes lie; the nearer they are, the more there are.
The result has `nodes`, its standard `error`, `counted` (nodes that were seen for it), `from`
("lookups" or, before one has ended, "routing table") and `samples`, a list with `target`, `nodes`
(by this one alone) and `distances` (from 0 to 1) each.]],
    example = "estimate().nodes",
  },
  {
    name = "node", args = "other=nil", summary = "this node, or another: its id, age, numbers",
    text = [[
With an argument it is another node of yours that runs on this machine, named as for on(): a table with the functions
that ask a node, so that node(8003).tree() shows what tree() shows there.
Without one, the result has `id`, `address`, `port`, `uptime` in seconds, `estimate` (nodes in the network),
`contacts`, `stored` (`keys`, `values`, `bytes`), `lookups` that run, and `counters`. Among these
`stored` counts values that others stored here, `handed_over` those that this node gave to others in its
upkeep, `routes` what was done with routes that came here, and `limited` requests left without an answer, because their source, or a network around it, cost
more than `source_rate` pings a second, or all together more than `total_rate`: constants of a
configuration, 20000 and 100000, 0 for no limit. On loopback, where a whole lab shares one address,
neither limits anything. A node that was started with --state has `state` too: `folder`, `written` (seconds ago),
and `problem` while nothing can be written.]],
    example = "node().id",
  },
  {
    name = "on", args = "node, function, ...", summary = "call a function at another node",
    text = [[
The node is one of yours that runs on this machine, in another process: its port, "address:port", a contact or
the path of its control socket. `kademlua nodes` lists them; a node that was started with --no-control is not
among them. The function is one that asks a node: tree, findvalue, packets, trace and so on; it returns what it
returns there. If it takes a function of yours (tap, rpc), that runs here.
`kademlua attach PORT` makes a whole shell of that.]],
    example = 'on(node().port, findnode, sha1("8003")).nodes[1]',
  },
  {
    name = "settings", args = "", summary = "the settings of this node, and what they mean",
    text = [[
A node takes its settings from a configuration (`kademlua --config FILE`), a simulated network from
net{…}. The result is a list, with `name`, `value`, `default`, `unit`, what it `takes`, its `meaning`
and the `source` of the default.]],
    example = "for _, setting in ipairs(settings()) do print(setting.name, setting.value) end",
  },
  {
    name = "xdp", args = "", summary = "the fast path in the kernel: what it answered",
    text = [[
The result has `attached`; if it is true, `interface`, `mode`, `answering`, `heartbeat` (seconds ago),
`contacts` mirrored, `cached` values (`keys`, `bytes`, `hits`, `misses`), `share` of the requests
answered in the kernel (0 to 1), `ns` for each run if the kernel measures it, and counters by reason:
`answered`, `forwarded`, `passed`, `dropped`, `strangers`; else
`reason`. Attach with: sudo kademlua xdp attach --iface lo; the node needs --xdp.]],
    example = "xdp().attached",
  },
  {
    name = "packets", args = "filter=20", summary = "the last packets of this node, both ways",
    text = [[
The filter is how many to show, or a table of what they must match: `rpc` (a
name), `peer`, `kind`, `direction` ("in", "out"), `call` (16 hex digits), and
`n`, how many. Each packet has `time` (seconds since 1970), `direction`,
`peer`, `kind` ("request", "answer", "no such rpc", "failure" or "malformed"),
`rpc`, `call`, `size`, `args` or `results`, `ms` from request to answer, and,
if something is wrong with it, `error` and `bytes`. In a line, > is sent, <
received, ? a request, = an answer.
A node with a shell keeps its last 1000 packets, 1 MiB at most, from its start;
packets(false) forgets them and keeps none until packets is called again. Requests
that the kernel answers (xdp) never reach the node, and are not among them.]],
    settings = { "n", table.unpack(filter) }, choices = filter_choices,
    example = 'ping(8003)\nlocal last = packets{rpc = "ping", peer = 8003}\nassert(last[#last].kind == "answer" and last[#last].ms > 0)',
  },
  {
    name = "tap", args = "function, filter=nil", summary = "call a function for each packet to come",
    text = [[
The function gets each event, one after the other: packets as packets() returns
them, and, if the filter lets them through, contacts that come into the
routing table or leave it, with `time`, `kind` ("contact added", "contact
lost") and `peer`. It runs in the background. If it raises an error the
tap ends. A slow function never holds up the node but loses events; `lost`
of each event is how many so far. A function that asks the network sees its own
packets.
The result is for untap.]],
    settings = filter, choices = filter_choices,
    example = 'local watch = tap(print, {rpc = "ping"})\nping(8003)\nsleep(0.1)\nuntap(watch)',
  },
  {
    name = "untap", args = "task=nil", summary = "end what tap began, or all taps",
    text = "The result has `ended` and `lost`, the events that the taps were too slow for.",
    example = "tap(function(event) end)\nassert(untap().ended == 1)",
  },
  {
    name = "capture", args = "file, existing=nil", summary = "write all packets to a pcap file",
    text = [[
The packets of this node from now on, both ways, in a file that Wireshark and
tshark open; lua/wireshark/kademlua.lua teaches these to read it.
capture(false) ends it, as the end of the shell does; capture() tells how far
it is. A file that is there is never touched, unless it is a pcap file and
`existing` is "replace". The result has `file`, `packets`, `bytes`, `running`
and `lost`, packets for which the disk was too slow. IP and UDP headers are
made up around the datagrams that the node sees; it does not see those that
the kernel answers (xdp).]],
    choices = { existing = { "replace" } },
    example = 'capture("node.pcap")\nping(8003)\nassert(capture(false).packets >= 2)',
  },
  {
    name = "call", args = "contact, name, ...", summary = "call a function that another node offers",
    text = "Sends the arguments and returns what the function there returns; see help(rpc).",
    example = 'call(8003, "greet", "you")',
  },
  {
    name = "rpc", args = "name, function", summary = "offer a function that other nodes can call",
    text = [[
The function gets the contact that calls and its arguments; its results are sent back. It
may wait for the network. If it raises an error, or has no answer after 1.3 s, the caller only learns
that it failed. A function that computes for longer than 1 ms takes turns with other
calls and programs, anywhere inside; one that takes longer than 1.3 s is ended, and so it is by Ctrl-C.
A call that arrives twice within 10 s runs once (of the last 1024 calls).
rpc(name) without a function, or cancel, takes the offer back.]],
    example = 'rpc("greet", function(from, name) return "hello " .. name end)',
  },
  {
    name = "spawn", args = "function, ...", summary = "run a function in the background",
    text = "It runs whenever everything else waits. The result is for cancel.",
    example = 'spawn(function(name) sleep(0.1) print("hello " .. name) end, "you")',
  },
  {
    name = "after", args = "seconds, function, ...", summary = "run a function once, later",
    text = "The result is for cancel.",
    example = 'after(0.1, print, "later")',
  },
  {
    name = "every", args = "seconds, function, ...", summary = "run a function again and again",
    text = [[
It first runs after that many seconds. A run that takes longer delays the next. An error ends
it. The result is for cancel.]],
    example = "local task = every(0.1, function() print(#contacts()) end)\nsleep(0.25)\ncancel(task)",
  },
  {
    name = "cancel", args = "task", summary = "end what spawn, after, every or rpc began",
    text = "Returns whether there was something to end.",
    example = "cancel(spawn(sleep, 60))",
  },
  {
    name = "tasks", args = "", summary = "what runs in the background, and how to end it",
    text = [[
The tasks that spawn, after, every, rpc and tap began and that have not ended: each with `task`, the number that
cancel takes, `kind` (which of these began it), `seconds` since then, and what it `waits_for`: a function that it
called, or its turn or time. An error in a task is shown when it comes, ends the task, and makes the exit
status of a program 1.]],
    example = "local task = every(60, print, \"tick\")\nassert(tasks()[#tasks()].kind == \"every\")\ncancel(task)",
  },
  {
    name = "exit", args = "status=0", summary = "end the program or the shell",
    text = [[
The status, from 0 to 255, goes to the system. The node ends in good order and first keeps the values that it has
acknowledged. At the prompt the word alone will do.]],
    example = "cancel(after(60, exit, 3))",
  },
  {
    name = "quit", args = "status=0", summary = "the same as exit",
    text = "See help(exit).",
    example = "cancel(after(60, quit))",
  },
  {
    name = "sleep", args = "seconds", summary = "wait; everything else goes on",
    text = "Fractions are welcome.",
    example = "sleep(0.1)",
  },
  {
    name = "net", args = "settings", summary = "make a simulated network, on virtual time",
    text = [[
Settings are `nodes` (100), `seed` (1), `latency` in ms, one way (a number or {least, most}),
`loss` (0 to 1), `addresses` ("private", those of one house, or "public", all over; "private6", "public6")
and the constants of a node: k, alpha, expire, … split_bits, 1 to 5, is how finely far buckets are
cut; require_tokens, 0 or 1, whether stores of strangers need a token; check and keepalive, which a real
node has on (180 and 20 s), are off unless one is given. The same seed gives the same
results. Nodes are numbered from 1, and results are like those of the real functions. With n = net{}:]],
    settings = net_settings, choices = { addresses = { "private", "public", "private6", "public6" } }, methods = "n:",
    example = 'local n = net{nodes = 50, seed = 7, latency = {20, 80}}\nn:add(1, sha1("key"), "value")\nn:kill(0.3)\nassert(n:findvalue(n:random(), sha1("key")).values[1].value == "value")',
  },
  {
    name = "cluster", args = "count=20, keep=false", summary = "start real nodes, as processes of their own",
    text = [[
They listen on free ports of 127.0.0.1, join through this node, and are asked at their control sockets, as on() does it.
With `keep` the state of a node stays on disk while it is killed, and is back when the node is started again. All end
with the shell, however it ends. With c = cluster(20):]],
    methods = "c:",
    example = 'local c = cluster(3)\nc:add(1, sha1("key"), "value")\nc:kill(1)\nassert(c:findvalue(2, sha1("key")).values[1].value == "value")\nc:stop()',
  },
  {
    name = "lesson", args = "number=nil, seed=nil", summary = "list the lessons, or start one",
    text = [[
A lesson goes on as you type: it looks at the result of each line. What it has made stays when it ends: play on.
If it took names of yours, their values are in lesson.before. Another seed makes another network, and so other
answers. hint() helps, and more each time. lesson("results") tells how far you are, and the file where that is kept.
A teacher grades the files of a class with kademlua sim --grade FOLDER, which replays what was typed: from the
start of the lesson, so that anything you defined before does not count.
Your own lessons are Lua files in a folder that --lessons or KADEMLUA_LESSONS names; lua/lesson.lua says
what a lesson contains.]],
    methods = "lesson.",
    example = "lesson()",
  },
  {
    name = "hint", args = "", summary = "help with the step of the lesson that runs",
    text = "Called again it says more, up to the answer. Without a lesson it is an error.",
    example = "lesson(1) hint() lesson.quit()",
  },
  {
    name = "sha1", args = "text", summary = "the SHA-1 of a string: the key of a name",
    text = "20 bytes. The id of a node on 127.0.0.1 is the SHA-1 of its port.",
    example = 'assert(tohex(sha1("8001")) == "0c7fa9633c55e421aa41f2300470e6d40676d09b")',
  },
  {
    name = "xor", args = "a, b", summary = "the distance between two ids",
    text = "20 bytes, the most significant first.",
    example = 'tohex(xor(sha1("8001"), sha1("8003")))',
  },
  {
    name = "getbucketno", args = "distance, b=nil", summary = "the number of the first bit that is set",
    text = [[
1 for the most significant bit to 160 for the least, 161 if no bit is set. With two ids it takes
the distance between them.]],
    example = 'local a, b = sha1("a"), sha1("b")\nassert(getbucketno(xor(a, b)) == getbucketno(a, b))',
  },
  {
    name = "explain", args = "a, b", summary = "the distance between two ids, bit by bit",
    text = [[
The result has `a`, `b` and `xor` in hex digits, the shared leading `bits`, the `bucket` into which
each belongs in the other's routing table, `number` (what getbucketno says) and `share`, the
distance from 0 to 1.]],
    example = 'explain(sha1("a"), sha1("b")).bits',
  },
  {
    name = "tohex", args = "bytes", summary = "a string as hex digits",
    text = "Two digits a byte.",
    example = 'assert(tohex("AZ") == "415a")',
  },
  {
    name = "fromhex", args = "digits", summary = "the string that hex digits stand for",
    text = "The inverse of tohex; upper or lower case.",
    example = 'assert(fromhex("415A") == "AZ")',
  },
  {
    name = "hist", args = "list", summary = "draw how often which numbers occur",
    text = [[
A bin takes the numbers from its lower bound up to, but without, its upper one.
The result has `count`, `least`, `most`, `median` and `bins`, a list with `from`, `to` and `count`.]],
    example = "hist{1, 2, 2, 3, 3, 3}.median",
  },
  {
    name = "plot", args = "list", summary = "draw numbers as a curve, the first at the left",
    text = "The result has `values`, `least` and `most`.",
    example = "local squares = {}\nfor i = 1, 20 do squares[i] = i * i end\npprint(plot(squares))",
  },
  {
    name = "bars", args = "table", summary = "draw numbers as bars, each with its name",
    text = "A list is drawn in its order, a table of names in theirs. The result has `bars`, with `label` and `value`.",
    example = "bars{apples = 3, plums = 5}",
  },
  {
    name = "print", args = "...", summary = "show values as tostring makes them",
    text = [[
Control characters other than line ends and tabs are shown, not obeyed, and so are bytes that are not
UTF-8 and characters that are invisible or turn the writing direction: "\27" is shown as \x1b. The same
holds for files and pipes: their text is shown some day, and may come from a peer. Exact bytes
go out as hex digits (tohex) or with --json.]],
    example = 'print("two", 2)',
  },
  {
    name = "pprint", args = "...", summary = "show values as the prompt does, tables in full",
    text = [[
Works for any value. The prompt shows results this way. It runs none of the value's own code: a
table is shown as it is, whatever its metatable says. A long table is cut after 1000 items, or 100 kB, with the number
of the others; a long string after 10 kB. With {all = true} as the last argument everything is
shown; then more than a million items or 16 MB of text are an error.]],
    example = 'pprint({1, 2, name = "x"})',
  },
  {
    name = "pager", args = "...", summary = "show all of a value in the pager, page by page",
    text = [[
Without an argument it shows the last result. The pager is the one that PAGER names, or less; if output or input is no terminal,
or PAGER is cat, the value is just shown. After pager("auto") results that are longer than the screen go there, as with
git and psql, until pager("off"). It is off at first, so that you can type on.]],
    choices = { ["..."] = { "auto", "off" } },
    example = "pager({1, 2, 3})",
  },
  {
    name = "edit", args = "text=nil", summary = "edit what was typed last, and run it",
    text = [[
The editor is the one that VISUAL or EDITOR names, or vi. A given text is edited and run instead. Ctrl-X Ctrl-E does it with the
line that is being typed. If the editor ends with an error, or leaves nothing, nothing is run.]],
    example = 'assert(not pcall(edit, "no terminal"))',
  },
  {
    name = "progress", args = "done, total", summary = "show how far a program is",
    text = [[
A line on standard error, if that is a terminal and the program runs for longer than a second. It goes when
`done` is `total`, and when the program ends. net, n:run, n:join and cluster show theirs by themselves.]],
    example = "for i = 1, 10 do progress(i, 10) sleep(0.01) end",
  },
  {
    name = "row", args = "table", summary = "a row of data for programs: with --json or --csv",
    text = [[
With --json it is written as a line of JSON, with --csv as a line of CSV, where the first row names the
columns; else it does nothing. So a script can print for people and give its data too.]],
    example = "row{nodes = 100, hops = 2.1}",
  },
  {
    name = "save", args = "value, file, existing=nil", summary = "write a value to a file, for read",
    text = [[
The name of the file says how: .json, .lua (which keeps everything except functions), .csv (rows: a list
of tables) or .txt (a string as it is, any other value as pprint shows it). JSON has no inf and nan, they
become null, and its keys are texts. In CSV a cell that looks like a number is one when it is read back, and a
table in a cell is JSON. A file that is there is kept, unless `existing` is "replace". A file appears
whole or not at all; 16 MB are the most. The result has `file` and `bytes`.]],
    example = 'save({{nodes = 10, hops = 1.5}}, "hops.csv")\nassert(read("hops.csv")[1].hops == 1.5)',
  },
  {
    name = "read", args = "file", summary = "the value that save wrote",
    text = [[
The name of the file ends with .json, .csv, .lua or .txt; other files are not read. A .lua file runs
without any function that it could call. To run programs, use dofile and require.]],
    example = 'save({1, 2, 3}, "list.json")\nassert(#read("list.json") == 3)',
  },
  {
    name = "dofile", args = "file", summary = "run a Lua file here, and return what it returns",
    text = "It can use everything that programs can, and its globals stay. The name ends with .lua.",
    example = 'save({1, 2}, "values.lua")\nassert(dofile("values.lua")[2] == 2)',
  },
  {
    name = "require", args = "name", summary = "load a module, once",
    text = [[
a.b is the file a/b.lua beside the script, or else in ~/.config/kademlua/lua (below XDG_CONFIG_HOME). Its
result is kept for the next call.]],
    example = 'assert(not pcall(require, "missing"))',
  },
  {
    name = "gc", args = "what=nil", summary = 'memory; "collect" or "step" frees some first',
    text = "The result has `lua`, `max` (what Lua may use at most) and `process`, in kilobytes.",
    choices = { what = { "collect", "step" } },
    example = 'gc("collect").lua',
  },
}

help.more = [[
help(findvalue), help("findvalue"), ?findvalue or findvalue? explains a function, and
in the same way a method: help(n.kill), help("n:kill"), ?c:status, or a value.
A line, and the chunk of -e, may be an expression, or statements that end with one: x = 5; x. Its values are the
result. The results of script files are only what they return. At the prompt
_ is the last result, and _1, _2, … are the last 100, unless a program uses
these names itself; the name of the last stands at the empty prompt. If they fill half of Lua's memory only the last is kept.
Beside these there is Lua's own: string, table, math, utf8, coroutine, os.time,
os.clock, os.date, pairs, pcall and so on.
The prompt begins with ~/.config/kademlua/init.lua (below XDG_CONFIG_HOME), if
there is one and --no-init is not given; programs run without it. With --json
each result is a line of JSON, with --csv rows are CSV, and print goes to
standard error. JSON has no inf and nan: they become null. If a key is not a text
and another key has its name, it stands in brackets: {[1] = "a", ["1"] = "b"}
is {"1": "b", "[1]": "a"}.
Ctrl-C ends a program at once, wherever it is, except inside one long call
of string.find, string.rep and the like. Lua is asked to end between two of
its instructions, and such a call is a single one: it cannot be left half done.
If it takes longer than a second the shell says so; Ctrl-C again then leaves
kademlua. The node goes on answering others all the while.]]

return help
