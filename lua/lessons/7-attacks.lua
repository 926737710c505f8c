-- Those that joined, and how many of them share 20 bits with the key.
local function newcomers(l)
  local list, beside = {}, 0
  for _, i in ipairs(l.n:alive()) do
    if i > 100 then
      list[#list + 1] = i
      if getbucketno(l.set.key, l.n:node(i).id) > 20 then beside = beside + 1 end
    end
  end
  return list, beside
end

local function old_alive(l) return #l.n:alive() - #newcomers(l) end

local BACK = " lesson.reset() puts everything back to how the step began."

return {
  title = "What an attacker can do",
  network = { nodes = 100, seed = 8, max_values_per_owner = 5 },
  start = function(l)
    l.set.key = sha1("lesson 7")
    l.n:add(1, l.set.key, "truth")
  end,
  steps = {
    {
      tell = [[
Anybody may send a datagram and write any sender on it. Somebody who could fill routing
tables with invented nodes would lead every lookup into the void. n:spoof(i, id) gives
node i a ping from an id that does not exist, at an address where nobody is. A node
needs some seconds to make up its mind; n:run(seconds) lets them pass.]],
      task = 'Let node 1 hear from sha1("mallory"), give it five seconds, and look at its contacts. Is mallory among them? Type true or false',
      hint = {
        'First n:spoof with node 1 and that id, then n:run. Contacts have an id of 40 digits: compare it with tohex(sha1("mallory")).',
        'n:spoof(1, sha1("mallory"))\nn:run(5)\nn:node(1).contacts()\nand then: false',
      },
      expects = { "boolean", "number", "spoof", "contacts", "text" },
      check = function(l, answer)
        local call = l.call(answer)
        if answer ~= true and answer ~= false and not call then
          return #l.calls("spoof") > 0 and #l.calls("run") == 0 and "The ping is on its way. Give node 1 five seconds." or nil
        end
        -- Time that passes before the ping does not count.
        local spoofed, waited = false, 0
        for _, past in ipairs(l.calls()) do
          if past.name == "spoof" and past.args[1] == 1 and (past.args[2] == sha1("mallory") or past.args[2] == tohex(sha1("mallory"))) then
            spoofed = true
          elseif past.name == "run" and spoofed then
            waited = waited + past.args[1]
          end
        end
        if not spoofed then return "Node 1 has not heard of mallory yet: n:spoof comes first." end
        if waited < 5 then return "Give node 1 a moment to decide: five seconds." end
        if call and call.name == "contacts" then return "There they are. Is mallory among them? Type true or false." end
        if answer == true then return 'Look again: no contact of node 1 has the id tohex(sha1("mallory")).' end
        if answer == false then return true end
      end,
      otherwise = "The answer is true or false: is mallory among the contacts of node 1?",
      praise = "Mallory is not among them: a stranger must answer a ping at its address first.",
      answer = 'n:spoof(1, sha1("mallory")) n:run(5) return false',
      wrong = {
        { "n:node(1).contacts()", "n:spoof comes first" }, { "false", "n:spoof comes first" },
        { 'n:spoof(2, sha1("mallory")) n:run(5) return false', "n:spoof comes first" },
        { 'n:spoof(1, sha1("mallory")) return false', "a moment to decide" },
        { 'n:run(6) return n:node(1).contacts()', "Is mallory among them" }, { "true", "Look again" },
        { "n:run(1)", "true or false" },
      },
    },
    {
      tell = [[
Next, eclipse: ids can be chosen. Twenty nodes that sit down right beside a key become
its 20 nearest, and everything that is stored there from then on comes to them.
n:join(count, id, bits) lets nodes join whose ids share that many bits with an id.]],
      task = "Surround key: let twenty join whose ids share 20 bits with it",
      hint = { "count is 20, id is key, and bits is 20. Keep their numbers, as in mob = n:join(…).", "mob = n:join(20, key, 20)" },
      expects = { "number", "join", "findnode" },
      check = function(l)
        local list, beside = newcomers(l)
        if old_alive(l) < 100 then return "Some of the old nodes are dead, and nobody asked for that." .. BACK end
        if #list == 0 then return end
        if beside < #list then return ("%d joined, %d of them beside key: the others sit elsewhere."):format(#list, beside) .. BACK end
        if #list < 20 then return ("%d joined; to surround the key it takes 20."):format(#list) end
        if #list > 20 then return ("%d joined, where 20 were asked for. One must know when to stop."):format(#list) .. BACK end
        local mob, around = {}, 0
        for _, i in ipairs(list) do mob[l.n:node(i).id] = true end
        for _, contact in ipairs(l.n:findnode(1, l.set.key).nodes) do
          if mob[contact.id] then around = around + 1 end
        end
        l.around, l.mob = around, list
        l.place("mob", { table.unpack(list) })
        return true
      end,
      otherwise = "Nobody has joined yet: n:join.",
      praise = function(l)
        return ("Of the 20 nodes that a lookup now finds nearest to the key, %d are theirs. Their numbers, %d to %d, are in mob."):format(l.around, l.mob[1], l.mob[#l.mob])
      end,
      answer = "mob = n:join(20, key, 20)",
      wrong = {
        { "20", "Nobody has joined" }, { "n:join(1, key, 20)", "1 joined" }, { "n:join(3)", "sit elsewhere" },
        { "lesson.reset()" }, { "n:join(25, key, 20)", "where 20 were asked for" },
        { "lesson.reset()" }, { "n:kill{5}", "nobody asked for that" }, { "lesson.reset()" },
      },
    },
    {
      tell = [[
They got copies of the value, as they are nearest. Now they all leave at once and
take them along. n:kill(list) ends the nodes in a list; yours is mob.]],
      task = "Kill the mob, and them alone. Then let node 1 look for the value of key",
      hint = { "Two calls: n:kill(mob), and then n:findvalue for node 1.", "n:kill(mob) return n:findvalue(1, key)" },
      expects = { "number", "kill", "findvalue", "findnode" },
      check = function(l, result)
        local list = newcomers(l)
        if old_alive(l) < 100 then return "Some of the old nodes died with them." .. BACK end
        if #list > 0 then return ("%d of them are still there: n:kill(mob)."):format(#list) end
        local call = l.call(result)
        if call and call.name == "kill" then return "They are gone. Is the value gone with them? Let node 1 look." end
        if not call or not call.result.target then return end
        if not call.here or call.result.target ~= tohex(l.set.key) then return "That was a search for something else than key." end
        if not call.result.values then return "That finds nodes; findvalue finds the value." end
        if call.args[1] ~= 1 then return ("Node %s has looked. Node 1, please: it had stored the value."):format(call.args[1]) end
        if call.result.values[1] and call.result.values[1].value == "truth" then return true end
        return "Nothing was found." .. BACK
      end,
      otherwise = "They are gone; now look for the value with n:findvalue.",
      praise = [[
The former holders had kept theirs. Values that were published before are safe; values that are
published while a key is surrounded are not. Kademlua signs nothing, so against attackers that
stay and lie, only storing in many places helps: do not trust, verify.]],
      answer = "n:kill(mob) return n:findvalue(1, key)",
      wrong = {
        { "n:findvalue(1, key)", "still there" }, { "n:kill{mob[1]}", "19 of them" }, { "n:kill{3}", "old nodes died" },
        { "lesson.reset()" }, { "n:kill(mob)", "Let node 1 look" }, { "n:findvalue(7, key)", "Node 1, please" },
        { 'n:findvalue(1, sha1("x"))', "something else" }, { "n:findnode(1, key)", "finds nodes" }, { "lesson.reset()" },
      },
    },
    {
      tell = [[
Last, flooding: fill the stores until nothing else fits. Each node keeps only a limited number
of values of one sender: usually 4096, in this network 5. A store returns `refused`, a list
of the nodes that did not want the value, each with its `reason`.]],
      task = "Let node 2 store junk under one new key after the other, until somebody refuses. Show what that store returned",
      hint = {
        'A loop makes keys: sha1("junk" .. i). Sixty of them will do.',
        'for i = 1, 60 do last = n:add(2, sha1("junk" .. i), i) end return last',
      },
      expects = { "number", "add", "put", "table" },
      check = function(l, result)
        local call = l.call(result)
        if not call or call.name ~= "add" and call.name ~= "put" then return end
        if not call.here then return "That was in another network than n." end
        if call.args[1] ~= 2 then return ("That was node %s. Only a single flooder meets the bound: node 2."):format(call.args[1]) end
        if #call.result.refused == 0 then return "Nobody has refused that one: it takes more junk." end
        l.refused = call.result.refused
        return true
      end,
      otherwise = "Show what n:add returned when it was refused.",
      praise = function(l)
        return ("%d nodes refused to take a copy of that one: '%s'. Others can store as before."):format(#l.refused, l.refused[1].reason)
      end,
      answer = 'for i = 1, 60 do last = n:add(2, sha1("junk" .. i), i) end return last',
      wrong = {
        { 'n:add(2, sha1("junk"), 1)', "more junk" }, { 'n:add(3, sha1("junk"), 1)', "That was node 3" },
        { "{refused = {{reason = 'no'}}}", "what n:add returned" },
      },
    },
  },
  finish = "And all of it can be read: src/guard/ decides which senders to believe, src/store/ counts.",
}
