return {
  title = "Ids and distance",
  network = { nodes = 5, seed = 7 },
  start = function(l)
    l.set.key = sha1("plum")
    for i = 1, 5 do
      local distance = xor(l.set.key, l.n:node(i).id)
      if not l.best or distance < l.best then l.best, l.nearest = distance, i end
      if not l.worst or distance > l.worst then l.worst, l.farthest = distance, i end
    end
    l.shared = getbucketno(sha1("apple"), sha1("plum")) - 1
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
      hint = 'Type it as it stands there, with the quotation marks: sha1("apple")',
      expects = { "id", "text" },
      check = function(_, id)
        if id == sha1("apple") then return true end
        if id == tohex(sha1("apple")) then return "Those are its digits, as text. sha1 alone returns the id itself." end
        if id == "apple" then return "That is the word. sha1 makes its id." end
        if type(id) == "string" and #id == 20 then return 'That is an id, but of another name than "apple". Each letter counts.' end
      end,
      otherwise = 'That is a text, but no id. sha1("apple") makes one.',
      praise = "Right: 20 bytes, written as 40 hex digits. Everybody who hashes this word gets these.",
      answer = 'sha1("apple")',
      wrong = {
        { 'sha1("apples")', "another name" }, { 'sha1("Apple")', "another name" },
        { 'tohex(sha1("apple"))', "as text" }, { '"apple"', "the word" }, { '"pear"', "no id" },
      },
    },
    {
      tell = [[
How far apart are two ids? Kademlia takes the exclusive or of their bits: a bit of
the distance is 1 where the two differ. Odd as it looks, it behaves like a distance:
from an id to itself it is 0, it is the same both ways, and no detour is shorter.
xor(a, b) takes two ids.]],
      task = 'How far is it from the id of "apple" to the id of "plum"?',
      hint = {
        "xor wants ids, not words. You have just made the id of a word.",
        'xor(sha1("apple"), sha1("plum"))',
      },
      expects = { "id", "text", "number" },
      check = function(_, distance)
        local apple, plum = sha1("apple"), sha1("plum")
        if distance == xor(apple, plum) then return true end
        if distance == apple or distance == plum then return "That is one of the two ids. xor takes both." end
        if distance == string.rep("\0", 20) then return "Zero: those two are the same id." end
        if type(distance) == "string" and #distance == 20 then return "That is some distance, but not the one between these two." end
        if type(distance) == "number" then return "A distance is as long as an id, 160 bits: let xor work it out." end
      end,
      otherwise = "That is a text. xor returns the distance of two ids.",
      praise = "Right. Turn the two around and it stays the same.",
      answer = 'xor(sha1("apple"), sha1("plum"))',
      wrong = {
        { 'xor(sha1("plum"), sha1("plum"))', "Zero" }, { 'sha1("plum")', "one of the two" },
        { 'xor(sha1("apple"), sha1("pear"))', "these two" }, { "42", "as long as an id" },
      },
    },
    {
      tell = [[
The first bit in which two ids differ matters most: it outweighs all that follow.
So the distance is above all a matter of how many leading bits two ids share.
explain(a, b) draws two ids below each other, and their distance below both.]],
      task = 'Look at "apple" and "plum" this way. How many leading bits do they share? Type the number',
      hint = {
        'explain(sha1("apple"), sha1("plum")) marks the first bit that differs. Count the bits before it.',
        function(l) return ("The last lines of the drawing say it: %d."):format(l.shared) end,
      },
      expects = { "number", "explain" },
      check = function(l, number)
        if number == l.shared then return true end
        if number == l.shared + 1 then return "Nearly: that is the number of the first bit that differs. The shared bits are those before it." end
        local call = l.call(number)
        if not call then return end
        local ids = { [tohex(sha1("apple"))] = true, [tohex(sha1("plum"))] = true }
        if ids[call.result.a] and ids[call.result.b] and call.result.a ~= call.result.b then
          return "There they are. Now count the bits that the two rows share at the left, and type the number."
        end
        return "Those are two other ids."
      end,
      otherwise = "Another number: count the bits from the left, as long as both rows agree.",
      praise = function(l)
        return ("Right: %d. Half of all ids share no bit with a given one, a quarter one, an eighth two: to share %d is one in %d.")
          :format(l.shared, l.shared, 1 << l.shared + 1)
      end,
      answer = function(l) return tostring(l.shared) end,
      wrong = {
        { 'getbucketno(sha1("apple"), sha1("plum"))', "Nearly" }, { "160", "Another number" },
        { 'explain(sha1("apple"), sha1("plum"))', "There they are" }, { 'explain(sha1("a"), sha1("b"))', "two other ids" },
      },
    },
    {
      tell = [[
There is a network of five nodes now, called n. n:node(1) is its first node, and
n:node(1).id its id. A key is there too, called key. Distances are strings of bytes,
and Lua compares them with < as one would hope.]],
      task = "Which of the five nodes is nearest to key? Type its number",
      hint = {
        "Print the five distances: xor(key, n:node(1).id) is the first. tohex makes it readable.",
        "for i = 1, 5 do print(i, tohex(xor(key, n:node(i).id))) end\nand take the least.",
      },
      expects = { "number", "id" },
      check = function(l, number)
        if number == l.nearest then return true end
        if number == l.farthest then return "That is the farthest of all. The other end of the list, please." end
        if math.type(number) == "integer" and 1 <= number and number <= 5 then return "There is a nearer one than that." end
        if type(number) == "number" then return "The nodes have the numbers 1 to 5." end
        if number == l.n:node(l.nearest).id then return "That is its id. Which number has it?" end
      end,
      otherwise = "That is an id or a distance. The question is which node, 1 to 5.",
      praise = "Right. It would keep a value that is stored under this key, and every node can tell so.",
      answer = function(l) return tostring(l.nearest) end,
      wrong = {
        { function(l) return tostring(l.farthest) end, "the farthest" },
        { function(l) for i = 1, 5 do if i ~= l.nearest and i ~= l.farthest then return tostring(i) end end end, "a nearer one" },
        { "6", "1 to 5" }, { "n:node(1).id", "" }, { "xor(key, n:node(2).id)", "which node" },
      },
    },
  },
  finish = [[
That is all the geometry there is: ids, and the exclusive or between them. Everything
else in Kademlia is a way to find the nodes that are nearest to an id.]],
}
