-- Lessons: chapters that tell, let the learner type at the ordinary prompt, and look at what came
-- of it.
--
-- Handed in: `env`, in which everything runs, `native.lessons`, which reads the chapters, `pretty`.
-- Handed back: `lesson` and `hint` for the environment, and `after`, which the shell calls after
-- each chunk that was typed.
--
-- A chapter is a file that returns a table:
--
--   title    what lesson() lists
--   network  settings for `net`; the network is `n` in the environment
--   start    optional function(l): more to set; `l.n` is the network, what it puts into `l.set`
--            goes to the environment
--   steps    a list of
--     tell     a screen of text, or function(l) that returns one
--     task     what to type
--     check    function(l, ...): the values of the chunk. `true`: well done; a text: what was
--              wrong; nothing: the learner tried something else
--     hint     said by hint(), a text or function(l)
--     praise   optional, said when it was right, a text or function(l)
--     answer   a chunk that is right, or function(l) that returns one; lesson.test types it
--     wrong    pairs {chunk, part of what is then said}; lesson.test types them too
--   finish   the last words

local native, env, pretty = ...
local ipairs, type, load, error, tostring, pcall = ipairs, type, load, error, tostring, pcall
local setmetatable, next = setmetatable, next
local concat, pack, unpack = table.concat, table.pack, table.unpack
local find, format, gmatch, gsub = string.find, string.format, string.gmatch, string.gsub

local current -- the chapter that runs: `chapter`, `number`, `at` (step), `l`, `fresh`
local lesson = {}

local WIDTH = 78 -- of a screen, so that any terminal shows it whole

local function text_of(text, l)
  if type(text) == "function" then text = text(l) end
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

-- Text of several paragraphs, with a blank line between each two.
local function fill(text)
  local paragraphs = {}
  for paragraph in gmatch(text .. "\n\n", "(.-)\n\n+") do paragraphs[#paragraphs + 1] = filled(paragraph, WIDTH) end
  return concat(paragraphs, "\n\n")
end

local function screen(text) return setmetatable({ text = text }, pretty.shapes.help) end

-- All chapters: those that are built in, then those of the teacher's folder.
local function chapters()
  local ok, files = native.lessons()
  if not ok then error(files) end
  local list = {}
  for i, file in ipairs(files) do
    local chunk, problem = load(file.source, file.chunk, "t", env)
    if not chunk then error(problem, 0) end
    local chapter = chunk()
    if type(chapter) ~= "table" or type(chapter.title) ~= "string" or type(chapter.steps) ~= "table" then
      error(file.name .. ": a lesson is a file that returns a table with title and steps", 0)
    end
    for j, step in ipairs(chapter.steps) do
      if not (step.tell and step.task and type(step.check) == "function") then
        error(format("%s: step %d: expected tell, task and check", file.name, j), 0)
      end
    end
    chapter.ours = file.chunk ~= "@" .. file.name
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
  return chapter, #list
end

local function overview()
  local lines = { "Lessons; lesson(1) starts the first." }
  for i, chapter in ipairs(chapters()) do lines[#lines + 1] = format("%3d  %s", i, chapter.title) end
  return concat(lines, "\n")
end

local function step_text()
  local step = current.chapter.steps[current.at]
  return format("%s\n\n  [%d/%d] %s", fill(text_of(step.tell, current.l)), current.at, #current.chapter.steps,
    filled(text_of(step.task, current.l), WIDTH - 8, "        "))
end

local function leave()
  for name, old in next, current.before do env[name] = old.value end
  current = nil
end

-- Starts a chapter: its network, and what it sets, under names that are given back in the end.
local function begin(chapter, number)
  if current then leave() end
  local l = { set = {} }
  if chapter.network then l.n = env.net(chapter.network) end
  l.set.n = l.n
  if chapter.start then chapter.start(l) end
  current = { chapter = chapter, number = number, at = 1, l = l, before = {}, fresh = true }
  for name, value in next, l.set do
    current.before[name] = { value = env[name] }
    env[name] = value
  end
  return format("Lesson %d: %s\n\n%s", number, chapter.title, step_text())
end

-- The next step, or the end.
local function advance()
  current.at, current.fresh = current.at + 1, true
  if current.chapter.steps[current.at] then return step_text() end
  local text = fill(text_of(current.chapter.finish, current.l))
  local more = chapters()[current.number + 1]
  text = text .. (more and format("\nlesson(%d) goes on: %s.", current.number + 1, more.title) or "\nThat was the last lesson.")
  leave()
  return text
end

-- What is to be said about the values of a chunk, and whether they were right.
local function judge(...)
  local step, l = current.chapter.steps[current.at], current.l
  local ok, verdict = pcall(step.check, l, ...)
  -- What a check of ours trips over is no answer that it waits for; a teacher is told.
  if not ok and not current.chapter.ours then error(verdict, 0) end
  if not ok then verdict = nil end
  if verdict == true then
    local praise = text_of(step.praise, l)
    return (praise == "" and "Right." or fill(praise)) .. "\n\n" .. advance(), true
  end
  return type(verdict) == "string" and fill(verdict) or "", false
end

-- After a chunk that was typed: whether it ran to its end, and its values.
local function after(ok, ...)
  if not current then return "" end
  if current.fresh then
    -- The chunk itself began or moved on the lesson.
    current.fresh = false
    return ""
  end
  if not ok then return "The lesson waits; hint() helps." end
  local said = judge(...)
  if current then current.fresh = false end
  return said
end

local function running(name)
  if not current then error(name .. ": no lesson runs. Try lesson(1)") end
end

function lesson.again()
  running("lesson.again")
  return screen(step_text())
end

function lesson.next()
  running("lesson.next")
  return screen(advance())
end

function lesson.quit()
  running("lesson.quit")
  leave()
  return screen("The lesson is over; lesson() lists them all.")
end

local function hint()
  running("hint")
  return screen(text_of(current.chapter.steps[current.at].hint, current.l))
end

-- Types a chunk as a learner would.
local function typed(source)
  local chunk = load("return " .. source, "=input", "t", env) or load(source, "=input", "t", env)
  if not chunk then error("cannot compile " .. source, 0) end
  return judge(chunk())
end

-- Walks through a chapter with the wrong answers and the right ones that it names. For teachers,
-- and for the tests of the chapters here.
function lesson.test(number)
  local chapter = chapter_of(number, "lesson.test")
  local out, wrong = { begin(chapter, number) }, 0
  for at, step in ipairs(chapter.steps) do
    local place = format("lesson %d, step %d: ", number, at)
    for _, pair in ipairs(step.wrong or {}) do
      local source = text_of(pair[1], current.l)
      local said, right = typed(source)
      if right or not find((gsub(said, "\n", " ")), pair[2], 1, true) then
        error(place .. source .. ": expected '" .. pair[2] .. "' to be said, got '" .. said .. "'")
      end
      wrong = wrong + 1
      out[#out + 1] = "> " .. source .. "\n" .. said
    end
    if text_of(step.hint, current.l) == "" then error(place .. "there is no hint") end
    local source = text_of(step.answer, current.l)
    local said, right = typed(source)
    if not right then error(place .. source .. " is not taken as right: " .. said) end
    out[#out + 1] = "> " .. source .. "\n" .. said
  end
  return { steps = #chapter.steps, wrong = wrong, text = concat(out, "\n") .. "\n" }
end

local function call(_, number)
  if number == nil then return screen(overview()) end
  return screen(begin(chapter_of(number, "lesson"), number))
end

local shape = pretty.shape("lesson", function(_, out) out[1] = "lesson() lists the lessons" end)

return { lesson = lesson, hint = hint, after = after, shape = shape, call = call }
