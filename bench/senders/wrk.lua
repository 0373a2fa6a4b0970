-- wrk.lua: what wrk sends, and how it looks at the answers. Run as
--   wrk ... -s wrk.lua URL -- REQUESTS_FILE SUBJECTS FIRST_SUBJECT COUNT [FRAGMENT]...
-- REQUESTS_FILE   whole HTTP requests, a NUL byte after each; sent one after the other, again and again
-- SUBJECTS        every "########" becomes the next of so many numbers, from FIRST_SUBJECT on
-- COUNT FRAGMENT  every 16th answer must contain each fragment so many times
-- Prints one line of JSON at the end.

local requests, subjects, subject = {}, 1, 0
local count, fragments = 1, {}
local at, answers = 0, 0
local running = {}
-- Globals of a thread, read by done().
refused, wrong, example = 0, 0, ''

function setup(thread)
  table.insert(running, thread)
end

function init(args)
  local file = assert(io.open(args[1], 'rb'))
  for request in file:read('*a'):gmatch('([^%z]+)%z') do requests[#requests + 1] = request end
  file:close()
  subjects, subject, count = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  for index = 5, #args do fragments[#fragments + 1] = args[index] end
end

local function next_subject()
  subject = (subject + 1) % subjects
  return string.format('%08d', subject)
end

function request()
  at = at % #requests + 1
  if subjects == 0 then return requests[at] end
  return (requests[at]:gsub('########', next_subject))
end

local function occurs(body, fragment)
  local found, from = 0, 1
  while true do
    local first, last = body:find(fragment, from, true)
    if not first then return found end
    found, from = found + 1, last + 1
  end
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 then
    refused, example = refused + 1, body
    return
  end
  if answers % 16 ~= 0 then return end
  for _, fragment in ipairs(fragments) do
    if occurs(body, fragment) ~= count then
      wrong, example = wrong + 1, fragment .. ': ' .. body
      return
    end
  end
end

function done(summary, latency)
  local refusals, mistakes, text = 0, 0, ''
  for _, thread in ipairs(running) do
    refusals, mistakes = refusals + thread:get('refused'), mistakes + thread:get('wrong')
    if #thread:get('example') > 0 then text = thread:get('example') end
  end
  local failures = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\n{"responses":%d,"seconds":%.6f,"p50Millis":%.3f,"p99Millis":%.3f,"maxMillis":%.3f,"senderCpuSeconds":%.4f,"failures":%d,"refused":%d,"wrong":%d,"example":"%s"}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    os.clock(), failures, refusals, mistakes, (text:sub(1, 500):gsub('[%c"\\]', "'"))))
end
