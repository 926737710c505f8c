return {
  title = "Ids and distance",
  network = { nodes = 5, seed = 7 },
  start = function(l)
    l.set.key = sha1("plum")
    for i = 1, 5 do
      local distance = xor(l.set.key, l.n:node(i).id)
      if not l.best or distance < l.best then l.best, l.nearest = distance, i end
    end
  end,
  steps = {
    {
      tell = [[
A hash table finds values by their keys. A distributed one has no middle: it is
spread over many computers, the nodes, and each node must be able to work out
where a key belongs, without asking anybody who is in charge.

Kademlia's idea: nodes and keys get ids of the same kind, 160 bits, and a value is
kept by the nodes whose ids are nearest to its key. The id of a name is its SHA-1,
a number that looks random but is the same for everybody.]],
      task = 'Make one: type sha1("apple")',
      hint = 'Type it as it stands there: sha1("apple")',
      check = function(l, id)
        if id == sha1("apple") then return true end
        if type(id) == "string" and #id == 20 then return 'That is an id, but of another name than "apple".' end
      end,
      praise = "Right: 20 bytes, written as 40 hex digits. Whoever hashes this word gets these.",
      answer = 'sha1("apple")',
      wrong = { { 'sha1("apples")', "another name" } },
    },
    {
      tell = [[
How far apart are two ids? Kademlia takes the exclusive or of their bits: a bit of
the distance is 1 where the two differ. Odd as it looks, it behaves like a distance:
from an id to itself it is 0, it is the same both ways, and no detour is shorter.]],
      task = 'Take the distance between the ids of "apple" and "plum" with xor(a, b)',
      hint = 'xor(sha1("apple"), sha1("plum"))',
      check = function(l, distance)
        if distance == xor(sha1("apple"), sha1("plum")) then return true end
        if type(distance) == "string" and #distance == 20 then
          return distance == ("\0"):rep(20) and "Zero: those two are the same id." or "That is some id, but not this distance."
        end
      end,
      answer = 'xor(sha1("apple"), sha1("plum"))',
      wrong = {
        { 'xor(sha1("plum"), sha1("plum"))', "Zero" },
        { 'sha1("plum")', "not this distance" },
      },
    },
    {
      tell = [[
The first bit in which two ids differ matters most: it outweighs all that follow.
So the distance is above all a matter of how many leading bits two ids share.]],
      task = 'In which bit do the two differ first? getbucketno takes both ids',
      hint = 'getbucketno(sha1("apple"), sha1("plum"))',
      check = function(l, number)
        if number == getbucketno(sha1("apple"), sha1("plum")) then return true end
        if type(number) == "number" then return "It is another bit; let getbucketno find it." end
      end,
      praise = function()
        local bit = getbucketno(sha1("apple"), sha1("plum"))
        return ("Right: bit %d is the first that differs, so they share the %d before it."):format(bit, bit - 1)
      end,
      answer = 'getbucketno(sha1("apple"), sha1("plum"))',
      wrong = { { "160", "another bit" } },
    },
    {
      tell = [[
There is a network of five nodes now, called n. n:node(1) is its first node, and
n:node(1).id its id. A key is there too, called key. Distances are strings of bytes,
and Lua compares them with < as one would hope.]],
      task = "Which node, 1 to 5, is nearest to key? Type its number",
      hint = "for i = 1, 5 do print(i, tohex(xor(key, n:node(i).id))) end   and take the least",
      check = function(l, number)
        if number == l.nearest then return true end
        if type(number) == "number" then return "There is a nearer one than that. hint() shows how to see it." end
      end,
      answer = function(l) return tostring(l.nearest) end,
      wrong = { { function(l) return tostring(l.nearest % 5 + 1) end, "a nearer one" } },
    },
  },
  finish = [[
That is all the geometry there is: ids, and the exclusive or between them. Everything
else in Kademlia is a way to find the nodes that are nearest to an id.]],
}
