-- Lessons: chapters that tell, let the learner type at the ordinary prompt, and look at the
-- results.
--
-- Handed in: `native` (`lessons` reads the chapters, `remember` and `results` keep what was reached), `env`, in which
-- the learner types, `pretty`, and `inside`, which only the prelude has: `net`, `view(network)`, a network that only
-- checks hold, `same(a, b)`, `compiled(source)`, a chunk as the prompt takes it, and later `clean`, an environment
-- that nobody has changed, and `guard_strings(on)`, by which the methods of strings are those of that environment.
-- Handed back: `lesson` and `hint` for the environment; `after`, which the shell calls after each chunk that was
-- typed; and `witness`, through which the prelude lets calls be seen.
--
-- A chapter is a file that returns a table:
--
--   title    what lesson() lists
--   network  settings for `net`; the network is `n` in the environment
--   start    optional function(l): more to set; `l.n` is the network, what it puts into `l.set`
--            goes to the environment
--   steps    a list of
--     tell       a screen of text, or function(l) that returns one
--     task       what to do
--     enter      optional function(l): what happens to the network as the step begins
--     check      function(l, ...): the values of the chunk. `true`: well done; a text: what was wrong; nothing: see
--                `expects`
--     expects    kinds of values that are an answer, if a wrong one: "number", "boolean", "text", "id", or the name of
--                a function as in "findvalue"; one or a list
--     otherwise  said then if check says nothing
--     hint       said by hint(): a text, a function(l), or a list of them, each of which says more
--     praise     optional, said if it was right, a text or function(l, ...)
--     answer     a chunk that is right, or function(l) that returns one; lesson.test and lesson.next type it
--     wrong      pairs {chunk, part of what is then said}; lesson.test types them too, and {chunk} alone, to go on from
--   finish   the last words
--
-- Chapters run in an environment of their own, which a learner cannot change. What a learner returns may be made up:
-- `l.call(value)` tells which call of the shell's own functions made it, or nothing. A call has `name`, `args`
-- (without the network), `result` (a copy), and `here`, whether it went to `l.n`. `l.calls(name)` lists the calls to
-- a function in this step, `l.calls()` all of them, in order. `l.env` is the learner's environment, which may hold
-- anything; `l.place(name, value)` puts something there.

local native, env, pretty, inside = ...
local ipairs, type, load, error, pcall = ipairs, type, load, error, pcall
local setmetatable, next, select, rawequal, rawget, rawset = setmetatable, next, select, rawequal, rawget, rawset
local concat, pack, unpack, remove, sort = table.concat, table.pack, table.unpack, table.remove, table.sort
local find, format, gmatch, gsub, match = string.find, string.format, string.gmatch, string.gsub, string.match
local min, tointeger, randomseed = math.min, math.tointeger, math.randomseed
local compiled = inside.compiled

-- The chapter that runs: `chapter`, `number`, `seed`, `at` (step), `l`; `fresh`, whether the chunk itself moved it
-- on; `typed`, all chunks so far, of which `passed` steps came; `calls` of this step, `idle` chunks in a row, how
-- many `hints` were given, whether a chunk `failed`, and the words that were `told` once.
local current
local lesson = { before = {} }

local WIDTH = 78 -- of a text at the most, so that it is read well
local CALLS = 400 -- of a step that are remembered
local TYPED = 64 << 10 -- bytes that may be typed in a lesson whose result is kept
local WAIT = 10 -- seconds that a replay may sleep

local function width() return min(WIDTH, pretty.pen().width - 2) end

local function text_of(text, ...)
  if type(text) == "function" then text = text(...) end
  return text and (gsub(text, "%s+$", "")) or ""
end

-- One paragraph in lines that fit.
local function filled(paragraph, width, indent)
  local lines, line = {}, ""
  for word in gmatch(paragraph, "%S+") do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1], line = line, word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return concat(lines, "\n" .. (indent or ""))
end

-- Text of several paragraphs, with blank lines in between. Indented lines stay as they are.
local function fill(text)
  local paragraphs = {}
  for paragraph in gmatch(text .. "\n\n", "(.-)\n\n+") do
    paragraphs[#paragraphs + 1] = find(paragraph, "^ ") and paragraph or filled(paragraph, width())
  end
  return concat(paragraphs, "\n\n")
end

local function screen(text) return setmetatable({ text = text }, pretty.shapes.help) end

-- What was called.

local made = setmetatable({}, { __mode = "k" }) -- the call that made a result

local function copied(value, copies)
  if type(value) ~= "table" then return value end
  if copies[value] then return copies[value] end
  local copy = {}
  copies[value] = copy
  for key, item in next, value do copy[copied(key, copies)] = copied(item, copies) end
  return copy
end

local function seen(run, call, ...)
  local result, calls = ..., run.calls
  call.result = copied(result, {})
  call.here = call.network == nil or run.l.n ~= nil and inside.same(call.network, run.l.n)
  if type(result) == "table" then made[result] = call end
  -- Keeps no reference to other networks.
  if call.here then calls[#calls + 1] = call end
  if #calls > CALLS then remove(calls, 1) end
  return ...
end

-- A function whose calls a lesson sees while it runs, except for those of its own checks.
local function witness(name, f, is_method)
  return function(...)
    if not current or current.judging then return f(...) end
    local call = { name = name, args = { n = 0 } }
    local first = 1
    if is_method then call.network, first = ..., 2 end
    call.args = pack(select(first, ...))
    for i = 1, call.args.n do call.args[i] = copied(call.args[i], {}) end
    return seen(current, call, f(...))
  end
end

-- Chapters.

local DEFAULT_SEED = 1

local function check_chapter(file, chapter)
  if type(chapter) ~= "table" or type(chapter.title) ~= "string" or type(chapter.steps) ~= "table" then
    error(file.name .. ": a lesson is a file that returns a table with title and steps", 0)
  end
  for j, step in ipairs(chapter.steps) do
    if type(step) ~= "table" or not (step.tell and step.task and type(step.check) == "function") then
      error(format("%s: step %d: expected tell, task and check", file.name, j), 0)
    end
  end
end

-- All chapters: those that are built in, then those of the teacher's folder.
local function chapters()
  local ok, files = native.lessons()
  if not ok then error(files) end
  local list = {}
  for i, file in ipairs(files) do
    local chunk, problem = load(file.source, file.chunk, "t", inside.clean)
    if not chunk then error(problem, 0) end
    local chapter = chunk()
    check_chapter(file, chapter)
    chapter.ours = file.chunk ~= "@" .. file.name
    chapter.file = match(file.name, "[^/]+$")
    list[i] = chapter
  end
  return list
end

local function chapter_of(number, name)
  local list = chapters()
  local chapter = list[number]
  if not chapter then
    error(format("%s: expected the number of a lesson from 1 to %d, got %s", name, #list, pretty.value(number)))
  end
  return chapter, tointeger(number)
end

local function seed_of(seed, chapter, name)
  if seed == nil then return chapter.network and chapter.network.seed or DEFAULT_SEED end
  local whole = type(seed) == "number" and tointeger(seed)
  if not whole or whole < 1 or whole > 1 << 53 then
    error(format("%s: seed: expected a whole number from 1 to %d, got %s", name, 1 << 53, pretty.value(seed)))
  end
  return whole
end

local function overview()
  local lines = { 'Lessons; lesson(1) starts the first, lesson("results") tells how far you are.' }
  for i, chapter in ipairs(chapters()) do lines[#lines + 1] = format("%3d  %s", i, chapter.title) end
  return concat(lines, "\n")
end

local function step_of(run) return run.chapter.steps[run.at] end

local function step_text(run)
  local step = step_of(run)
  return format("%s\n\n  [%d/%d] %s", fill(text_of(step.tell, run.l)), run.at, #run.chapter.steps,
    filled(text_of(step.task, run.l), width() - 8, "        "))
end

-- Puts a name into the environment. A value that the learner has there moves to lesson.before.
local placed = {}
local function place(name, value)
  local old = rawget(env, name)
  local moves = old ~= nil and not rawequal(old, placed[name])
  if moves then lesson.before[name] = old end
  placed[name] = value
  rawset(env, name, value)
  return moves
end

local function new_l(run)
  local l = { set = {}, seed = run.seed, env = env, place = place }
  function l.call(value) return type(value) == "table" and made[value] or nil end
  function l.calls(name)
    local list = {}
    for _, call in ipairs(run.calls) do
      if name == nil or call.name == name then list[#list + 1] = call end
    end
    return list
  end
  return l
end

-- From here on, calls come from the learner or a chapter.
local function set_judging(run, judging)
  run.judging = judging
  inside.guard_strings(judging)
end

-- Does something for a chapter.
local function quietly(run, f, ...)
  set_judging(run, true)
  local results = pack(pcall(f, ...))
  set_judging(run, false)
  return unpack(results, 1, results.n)
end

local function must(ok, problem)
  if not ok then error(problem, 0) end
end

local function enter(run)
  run.calls, run.idle, run.hints, run.failed, run.told, run.fresh = {}, 0, 0, false, {}, true
  local step = step_of(run)
  if not step.enter then return end
  must(quietly(run, step.enter, run.l))
end

-- A chapter at its first step.
local function begin(chapter, number, seed)
  local run = { chapter = chapter, number = number, seed = seed, at = 1, typed = {}, bytes = 0, passed = {} }
  local l, moved = new_l(run), {}
  run.l = l
  -- So that random choices of a learner are the same in a replay.
  randomseed(seed)
  if chapter.network then
    local settings = {}
    for name, value in next, chapter.network do settings[name] = value end
    settings.seed = seed
    l.set.n = inside.net(settings)
    l.n = inside.view(l.set.n)
  end
  if chapter.start then must(quietly(run, chapter.start, l)) end
  for name, value in next, l.set do
    if place(name, value) then moved[#moved + 1] = name end
  end
  sort(moved)
  run.moved = moved
  current = run
  enter(run)
  return run
end

local function heading(run)
  local note = ""
  for _, name in ipairs(run.moved) do note = note .. format("\nYour own %s is lesson.before.%s now.", name, name) end
  return format("Lesson %d: %s%s\n\n%s", run.number, run.chapter.title, note, step_text(run))
end

local function last_words(run)
  local text = fill(text_of(run.chapter.finish, run.l))
  if run.l.set.n then
    text = text .. "\n\n" .. filled(run.l.set.key and "n and key stay as they are: play on." or "n stays as it is: play on.", width())
  end
  local more = chapters()[run.number + 1]
  return text .. (more and format("\nlesson(%d) goes on: %s.", run.number + 1, more.title) or "\nThat was the last lesson.")
end

-- The next step, or the end.
local function advance(run)
  run.at = run.at + 1
  if step_of(run) then
    enter(run)
    return step_text(run)
  end
  current = nil
  return last_words(run)
end

-- What to say.

local SPOILT = "Something that this step needs is gone. lesson.reset() puts it back to how the step began."

local IDLE = {
  "Play as long as you like; the lesson waits. lesson.again() repeats the task.",
  "Still here. hint() helps, lesson.next() shows how it is done, lesson.quit() ends the lesson.",
}

-- Words that come now and then: at the third chunk that has nothing to do with the task, and at each tenth.
local function aside(run)
  run.idle = run.idle + 1
  if run.idle == 3 then return IDLE[1] end
  return run.idle % 10 == 0 and IDLE[2] or ""
end

-- A word on a chunk that returned nothing although it may have been meant as an answer: each once in a
-- step.
local UNSEEN = {
  { "^%s*print%s*%(", "The lesson does not see what is printed: it looks at what a line returns. Type it without print." },
  { "^%s*local%s", "A local is gone with its line. The lesson looks at what a line returns: type the value itself." },
  { "^%s*[%a_][%w_]*%s*=[^=]", "That has a name now, and shows nothing. The lesson looks at values: type the name." },
}

local function said_of_nothing(run, source)
  for i, unseen in ipairs(UNSEEN) do
    if step_of(run).expects and not run.told[i] and find(source, unseen[1]) then
      run.told[i] = true
      return fill(unseen[2])
    end
  end
  return aside(run)
end

-- The error says it all; the first one of a step comes with advice.
local function said_of_failure(run)
  if run.failed then return aside(run) end
  run.failed = true
  local back = #run.l.calls("kill") > 0 and " lesson.reset() puts everything back to how the step began." or ""
  return fill("The lesson waits; hint() helps." .. back)
end

local function kinds_of(run, value)
  local kind = type(value)
  if kind == "string" and (#value == 20 or #value == 40 and not find(value, "%X")) then return { id = true, text = true } end
  if kind == "string" then return { text = true } end
  if kind ~= "table" then return { [kind] = true } end
  local call = run.l.call(value)
  return { [call and call.name or kind] = true }
end

local function is_expected(run, value)
  local expects = step_of(run).expects
  if value == nil or not expects then return false end
  local kinds = kinds_of(run, value)
  for _, kind in ipairs(type(expects) == "table" and expects or { expects }) do
    if kinds[kind] then return true end
  end
  return false
end

local function said_of_wrong(run, source, ...)
  local step = step_of(run)
  if select("#", ...) == 0 then return said_of_nothing(run, source) end
  if not is_expected(run, (...)) then return aside(run) end
  local text = text_of(step.otherwise, run.l, ...)
  return fill(text == "" and "That is not it yet; hint() helps." or text)
end

-- Our own chapters only fail in a world that the learner has changed; a teacher is told what the error
-- was.
local function tripped(run, problem)
  if not run.chapter.ours then error(problem, 0) end
  return SPOILT
end

local function passed(run, ...)
  local praised, praise = quietly(run, text_of, step_of(run).praise, run.l, ...)
  if not praised then
    tripped(run, praise)
    praise = ""
  end
  local went, text = pcall(advance, run)
  if not went then text = tripped(run, text) end
  return (praise == "" and "Right." or fill(praise)) .. "\n\n" .. text
end

-- What to say about a chunk and its values, and whether they were right.
local function judge(run, source, ...)
  local ok, verdict = quietly(run, step_of(run).check, run.l, ...)
  if not ok then return tripped(run, verdict), false end
  if verdict == true then return passed(run, ...), true end
  if type(verdict) == "string" then
    run.idle = 0
    return fill(verdict), false
  end
  return said_of_wrong(run, source, ...), false
end

-- Results.

local unkept = false -- whether it was told that nothing is kept

local function remember(run)
  if run.bytes > TYPED then return "\n(More was typed than a result may hold: this one is not kept.)" end
  local ok, problem = native.remember {
    lesson = run.chapter.file, seed = run.seed, steps = #run.chapter.steps, passed = run.passed, typed = run.typed,
  }
  if ok or unkept then return "" end
  unkept = true
  return "\n(Results are not kept: " .. problem .. ")"
end

-- Judges a chunk: returns what to say, and whether it passed the step.
local function took(run, source, ok, ...)
  run.typed[#run.typed + 1], run.bytes = source, run.bytes + #source
  if run.fresh then
    run.fresh = false
    return "", false
  end
  if not ok then return said_of_failure(run), false end
  local at = run.at
  local said, right = judge(run, source, ...)
  run.fresh = false
  if right then run.passed[#run.passed + 1] = at end
  return said, right
end

-- After a chunk that was typed: its source, whether it ran to its end, and its values.
local function after(source, ok, ...)
  local run = current
  if not run then return "" end
  set_judging(run, false) -- Ctrl-C may have ended a check
  if not run.began then
    run.began, run.fresh = true, false
    return ""
  end
  local said, right = took(run, source, ok, ...)
  return right and said .. remember(run) or said
end

local function results_text()
  local ok, results = native.results()
  if not ok then error(results) end
  local best = {}
  for _, record in ipairs(results.records) do
    local old = best[record.lesson]
    if not old or #record.passed >= #old.passed then best[record.lesson] = record end
  end
  local lines = { "Steps that you have passed:" }
  for i, chapter in ipairs(chapters()) do
    local record = best[chapter.file]
    local reached = record and format("%d of %d", #record.passed, record.steps) or "-"
    lines[#lines + 1] = format("%3d  %-32s %s", i, chapter.title, reached)
  end
  if results.problem then lines[#lines + 1] = results.problem end
  lines[#lines + 1] = "They are kept, with what was typed, in " .. results.file
  lines[#lines + 1] = "That is the file to hand in."
  return concat(lines, "\n")
end

-- For the environment.

local function running(name)
  if not current then error(name .. ": no lesson runs. Try lesson(1)") end
  current.fresh = true
  return current
end

function lesson.again() return screen(step_text(running("lesson.again"))) end

-- Types a chunk as a learner would.
local function typed(run, source)
  local chunk = compiled(source)
  if not chunk then error("cannot compile " .. source, 0) end
  return judge(run, source, chunk())
end

local function answer_of(run)
  local ok, source = quietly(run, text_of, step_of(run).answer, run.l)
  if not ok then return nil end
  return source ~= "" and source or nil
end

-- Puts everything back to how the step began: anew, with the answers of the steps before.
local function back_to_begin(run, name)
  local anew = begin(run.chapter, run.number, run.seed)
  for _ = 2, run.at do
    local source = answer_of(anew)
    if not source then error(name .. ": a step before this one has no answer", 0) end
    typed(anew, source)
  end
  anew.typed, anew.bytes, anew.passed, anew.began, anew.fresh = run.typed, run.bytes, run.passed, true, true
  return anew
end

function lesson.reset() return screen(step_text(back_to_begin(running("lesson.reset"), "lesson.reset"))) end

-- Shows how a step is done, and does it, so that the next steps find what they need.
function lesson.next()
  local run = running("lesson.next")
  local source = answer_of(run)
  if not source then return screen(advance(run)) end
  local ok, said, right = pcall(typed, run, source)
  if not (ok and right) then
    -- Changes of the network may stand in the way.
    run = back_to_begin(run, "lesson.next")
    ok, said, right = pcall(typed, run, source)
  end
  if not (ok and right) then error("lesson.next: the answer of this step is not taken as right", 0) end
  run.fresh = true
  return screen("> " .. source .. "\n\n" .. said)
end

function lesson.quit()
  local run = running("lesson.quit")
  current = nil
  return screen("The lesson is over; lesson() lists them all." .. (run.l.set.n and " n stays: play on." or ""))
end

local function hint()
  local run = running("hint")
  local hints = step_of(run).hint
  if type(hints) ~= "table" then hints = { hints } end
  local i = run.hints % #hints + 1
  run.hints = i
  local more = i < #hints and "\n(hint() again says more.)" or ""
  local text = text_of(hints[i], run.l)
  return screen((find(text, "\n", 1, true) and text or filled(text, width())) .. more)
end

-- The functions of the shell during a replay: nothing is shown, nothing outside the process is reached, and a chunk
-- that sleeps for long ends.
local function during_replay()
  local function mute() end
  local left, sleep = WAIT, env.sleep
  local during = { print = mute, pprint = mute, pager = mute }
  function during.sleep(seconds)
    if type(seconds) == "number" and seconds > left then
      error("sleep: a replay sleeps for no longer than " .. WAIT .. " s", 0)
    end
    sleep(seconds)
    left = left - seconds
  end
  for _, name in ipairs { "cluster", "node", "on", "save", "read", "dofile", "require", "capture", "edit", "exit", "quit" } do
    during[name] = function() error(name .. ": a replay has simulated networks alone", 0) end
  end
  return during
end

-- Replays a result: tells which steps the typed chunks pass.
function lesson.replay(record)
  if type(record) ~= "table" or type(record.typed) ~= "table" then
    error('lesson.replay: expected a result, as in {lesson = "1-ids.lua", seed = 7, typed = {}}')
  end
  local kept, during = {}, during_replay()
  for name in next, during do kept[name] = env[name] end
  for number, chapter in ipairs(chapters()) do
    if chapter.file == record.lesson then
      for name, stub in next, during do rawset(env, name, stub) end
      local run = begin(chapter, number, seed_of(record.seed, chapter, "lesson.replay"))
      run.fresh = false
      for _, source in ipairs(record.typed) do
        if current ~= run then break end
        local chunk = type(source) == "string" and compiled(source)
        local values = chunk and pack(pcall(chunk)) or pack(false)
        if values[1] and values[2] ~= nil then rawset(env, "_", values[2]) end
        -- lesson.reset() goes on with what was passed before.
        if current and current.passed == run.passed then run = current end
        if current == run then took(run, source, unpack(values, 1, values.n)) end
      end
      current = nil
      for name, value in next, kept do rawset(env, name, value) end
      return { lesson = number, title = chapter.title, seed = run.seed, steps = #chapter.steps, passed = run.passed }
    end
  end
  error("lesson.replay: no lesson is called " .. pretty.value(record.lesson) .. "; a teacher's own need --lessons FOLDER")
end

-- Values that are wrong for every task: a check must have a word for those of the kinds that it expects.
local JUNK = { number = "-12345", text = '"junk"', id = 'sha1("junk of lesson.test")' }

local function test_wrong(run, place_, source, part)
  local said, right = typed(run, source)
  if right or said == "" or not find((gsub(said, "\n", " ")), part, 1, true) then
    error(place_ .. source .. ": expected '" .. part .. "' to be said, got '" .. said .. "'", 0)
  end
  return "> " .. source .. "\n" .. said
end

-- Tries a step. Returns its number of wrong answers, and the run that goes on.
local function test_step(run, number, out)
  local step, place_, wrong = step_of(run), format("lesson %d, step %d: ", number, run.at), 0
  for _, pair in ipairs(step.wrong or {}) do
    local source = text_of(pair[1], run.l)
    if pair[2] then
      out[#out + 1] = test_wrong(run, place_, source, pair[2])
      wrong = wrong + 1
    else
      compiled(source)()
      run = current
      out[#out + 1] = "> " .. source
    end
  end
  for _, kind in ipairs(type(step.expects) == "table" and step.expects or { step.expects }) do
    if JUNK[kind] then test_wrong(run, place_, JUNK[kind], "") end
  end
  local hints = type(step.hint) == "table" and step.hint or { step.hint }
  for i = 1, #hints do
    if text_of(hints[i], run.l) == "" then hints = {} end
  end
  if #hints == 0 then error(place_ .. "there is no hint", 0) end
  local source = text_of(step.answer, run.l)
  local said, right = typed(run, source)
  if not right then error(place_ .. source .. " is not taken as right: " .. said, 0) end
  out[#out + 1] = "> " .. source .. "\n" .. said
  return wrong, run
end

-- Whether the text of a step contains, somewhere in a line, an answer that could be typed.
local function is_copied(chapter, number, seed, at)
  local function arrive()
    local run = begin(chapter, number, seed)
    for _ = 2, at do typed(run, answer_of(run)) end
    return run
  end
  local run = arrive()
  local step, tried = step_of(run), {}
  for line in gmatch(text_of(step.tell, run.l) .. "\n" .. text_of(step.task, run.l), "[^\n]+") do
    local words = {}
    for word in gmatch(line, "%S+") do words[#words + 1] = word end
    for first = 1, #words do
      for last = first, #words do
        local source = gsub(concat(words, " ", first, last), "[.,:;?]+$", "")
        if not tried[source] and compiled(source) then
          tried[source] = true
          local ok, _, right = pcall(typed, run, source)
          if ok and right then return true end
          if find(source, "[({]") then run = arrive() end
        end
      end
    end
  end
  return false
end

local function restoring(f)
  local before, kept, was = {}, lesson.before, current
  for name, value in next, env do before[name] = value end
  local old = placed
  placed, lesson.before = {}, {}
  local results = pack(pcall(f))
  for name in next, env do
    if before[name] == nil then env[name] = nil end
  end
  for name, value in next, before do env[name] = value end
  placed, lesson.before, current = old, kept, was
  if not results[1] then error(results[2], 0) end
  return results[2]
end

-- Walks through a chapter with the wrong and the right answers that it names. For teachers, and for the tests of our
-- chapters. `copied` counts steps whose text contains their answer.
function lesson.test(number, seed)
  local chapter
  chapter, number = chapter_of(number, "lesson.test")
  seed = seed_of(seed, chapter, "lesson.test")
  return restoring(function()
    local run = begin(chapter, number, seed)
    local out, wrong, copied_ = { heading(run) }, 0, 0
    for _ = 1, #chapter.steps do
      local more
      more, run = test_step(run, number, out)
      wrong = wrong + more
    end
    for at = 1, #chapter.steps do
      if is_copied(chapter, number, seed, at) then copied_ = copied_ + 1 end
    end
    return { steps = #chapter.steps, wrong = wrong, copied = copied_, text = concat(out, "\n") .. "\n" }
  end)
end

local function call(_, number, seed)
  if number == nil then return screen(overview()) end
  if number == "results" then return screen(results_text()) end
  local chapter
  chapter, number = chapter_of(number, "lesson")
  return screen(heading(begin(chapter, number, seed_of(seed, chapter, "lesson"))))
end

local shape = pretty.shape("lesson", function(_, out) out[1] = "lesson() lists the lessons" end)

return { lesson = lesson, hint = hint, after = after, shape = shape, call = call, witness = witness }
