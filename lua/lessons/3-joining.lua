return {
  title = "Joining",
  network = { nodes = 100, seed = 3 },
  steps = {
    {
      tell = [[
A new node needs one address, of anybody who is in the network already. It asks there
for the nodes nearest to its own id, asks those, and so on. Then it looks up something
in each of its other buckets. Now it knows its surroundings, and as everybody whom it
asked has seen it, they know it too.

n has 100 nodes.]],
      task = "Let one more join: n:join()",
      hint = "n:join()",
      check = function(l, numbers)
        local alive = l.n:stats().alive
        if alive == 101 then return true end
        if alive > 101 then
          l.n:kill { table.unpack(numbers or {}) }
          return "One is enough; those have left again. If there are too many, start anew with lesson(3)."
        end
      end,
      praise = function(l)
        l.new = #l.n:alive() == 101 and l.n:alive()[101]
        local sent = l.n:node(l.new).node().counters.datagrams_out
        return ("Node %d has joined. It sent %d datagrams so far."):format(l.new, sent)
      end,
      answer = "n:join()",
      wrong = { { "n:join(2)", "One is enough" } },
    },
    {
      tell = "Its routing table was empty a moment ago.",
      task = function(l) return ("Look at what it knows now: n:node(%d).contacts()"):format(l.new) end,
      hint = function(l) return ("n:node(%d).contacts()"):format(l.new) end,
      check = function(l, contacts)
        if type(contacts) ~= "table" or not contacts[1] or not contacts[1].failures then return end
        local own = l.n:node(l.new).contacts()
        if #contacts == #own and contacts[1].id == own[1].id then return true end
        return ("Those are the contacts of another node than %d."):format(l.new)
      end,
      answer = function(l) return ("n:node(%d).contacts()"):format(l.new) end,
      wrong = { { "n:node(1).contacts()", "another node" } },
    },
    {
      tell = "And do the others find it? Any node may look for an id with n:findnode(i, id).",
      task = function(l) return ("Let node 1 look for n:node(%d).id"):format(l.new) end,
      hint = function(l) return ("n:findnode(1, n:node(%d).id)"):format(l.new) end,
      check = function(l, result)
        if type(result) ~= "table" or not result.nodes then return end
        local first = result.nodes[1]
        if first and first.id == l.n:node(l.new).id then return true end
        return "The nearest node that this found is not the new one; look for its id."
      end,
      praise = "There it is, first in the list: at distance 0 from the id that was looked for.",
      answer = function(l) return ("n:findnode(1, n:node(%d).id)"):format(l.new) end,
      wrong = { { 'n:findnode(1, sha1("nobody"))', "not the new one" } },
    },
  },
  finish = "Nobody was told to make room, and nobody keeps a list. Joining is looking for oneself.",
}
