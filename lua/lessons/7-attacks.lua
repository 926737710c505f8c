return {
  title = "What an attacker can do",
  network = { nodes = 100, seed = 8, max_values_per_owner = 5 },
  start = function(l)
    l.set.key = sha1("lesson 7")
    l.n:add(1, l.set.key, "truth")
    l.knows = function(i, id)
      for _, contact in ipairs(l.n:node(i).contacts()) do
        if contact.id == tohex(id) then return true end
      end
    end
  end,
  steps = {
    {
      tell = [[
Anybody may send a datagram and write any sender on it. Whoever could fill routing
tables with invented nodes would lead every lookup into the void. n:spoof(i, id) gives
node i a ping from an id that does not exist, at an address where nobody is.]],
      task = 'Try it on node 1: n:spoof(1, sha1("mallory")) n:run(5) n:node(1).contacts()',
      hint = 'n:spoof(1, sha1("mallory")); n:run(5); return n:node(1).contacts()',
      check = function(l, contacts)
        if type(contacts) ~= "table" or not contacts[1] then
          if l.n:stats().time >= 5 then return not l.knows(1, sha1("mallory")) end
          return
        end
        if l.n:stats().time < 5 then return "Give node 1 a moment to decide: n:run(5)." end
        return not l.knows(1, sha1("mallory"))
      end,
      praise = "Mallory is not among them: a stranger must answer a ping at its address first.",
      answer = 'n:spoof(1, sha1("mallory")); n:run(5); return n:node(1).contacts()',
      wrong = { { "n:node(1).contacts()", "Give node 1 a moment" } },
    },
    {
      tell = [[
Next, eclipse: ids can be chosen. Twenty nodes that sit down right beside a key become
its 20 nearest, and all that is stored there from then on comes to them.
n:join(20, key, 20) lets twenty join whose ids share 20 bits with key.]],
      task = "Do it: mob = n:join(20, key, 20)",
      hint = "mob = n:join(20, key, 20)",
      check = function(l)
        local alive = l.n:stats().alive
        if alive >= 120 then return true end
        if alive > 100 then return ("%d joined; to surround the key it takes 20."):format(alive - 100) end
      end,
      praise = function(l)
        local mob, around = {}, 0
        for _, i in ipairs(l.n:alive()) do if i > 100 then mob[l.n:node(i).id] = true end end
        for _, contact in ipairs(l.n:findnode(1, l.set.key).nodes) do
          if mob[contact.id] then around = around + 1 end
        end
        return ("Of the 20 nodes that a lookup now finds nearest to the key, %d are theirs."):format(around)
      end,
      answer = "mob = n:join(20, key, 20)",
      wrong = { { "mob = n:join(1, key, 19)", "1 joined" } },
    },
    {
      tell = [[
They got copies of the value, as they are nearest. Now they all leave at once and
take them along.]],
      task = "Kill them, then look: n:kill(mob) and n:findvalue(1, key)",
      hint = "n:kill(mob); return n:findvalue(1, key)",
      check = function(l, result)
        if type(result) ~= "table" or not result.values then return end
        if l.n:stats().alive > 101 then return "They are still there: n:kill(mob)." end
        if result.values[1] then return true end
        return "Nothing was found. Is it the right key?"
      end,
      praise = [[
The former holders had kept theirs. What was published before is safe; what is published
while a key is surrounded is not. Kademlua signs nothing, so against attackers that stay
and lie nothing holds but being stored in many places: do not trust, verify.]],
      answer = "n:kill(mob); return n:findvalue(1, key)",
      wrong = { { "n:findvalue(1, key)", "still there" } },
    },
    {
      tell = [[
Last, flooding: fill the stores until nothing else fits. Each node keeps only so many
values of one sender: usually 4096, in this network 5.]],
      task = 'Let node 2 flood: for i = 1, 60 do last = n:add(2, sha1("junk" .. i), i) end',
      hint = 'for i = 1, 60 do last = n:add(2, sha1("junk" .. i), i) end',
      check = function(l)
        local last = last
        if type(last) ~= "table" or not last.refused then return end
        if #last.refused > 0 then return true end
        return "Nobody has refused yet: it takes more junk."
      end,
      praise = function()
        return ("Of the last one %d nodes refused to take a copy: '%s'.\nOthers can store as before."):format(#last.refused, last.refused[1].reason)
      end,
      answer = 'for i = 1, 60 do last = n:add(2, sha1("junk" .. i), i) end',
      wrong = { { 'last = n:add(2, sha1("junk 1"), 1)', "more junk" } },
    },
  },
  finish = "And all of it can be read: src/node/maintenance.rs pings strangers, src/store/ counts.",
}
