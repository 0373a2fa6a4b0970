-- judge-plainly.lua: the decision that most requests need. A fragment: included by decide.lua before write-subjects.lua.
--
-- A request without shadow rules and conditions whose penalties have nothing to say, or a request without any: the same
-- as in judge-request.lua, without what cannot be.

-- Whether no penalty of the request ever left NORMAL, as far as anybody remembers.
local function is_quiet(request)
  for i = 1, #request.penalties do
    local subject = request.penalties[i].subject
    if subject.states[PENALTY_FIELD] or stored_in(subject, PENALTY_FIELD) then
      return false
    end
  end
  return true
end

-- Judges all limits and notes in each its entry and how long it makes the request wait. Whether all of them admit, and
-- the longest wait.
local function judge_plainly(request)
  local admitted, longest = true, 0
  for i = 1, #request.rules do
    local limits = request.rules[i].limits
    for n = 1, #limits do
      local limit = limits[n]
      local algorithm, entry = limit.algorithm, entry_of(limit.subject, limit.field, limit)
      limit.entry = entry
      if algorithm.advance(entry.state, limit, now) then
        entry.moved, has_moved = true, true
      end
      local admits, wait = algorithm.evaluate(entry.state, limit, now)
      limit.wait = wait
      if not admits then
        admitted = false
        if wait == -1 or longest == -1 then
          longest = -1
        elseif wait > longest then
          longest = wait
        end
      end
    end
  end
  return admitted, longest
end

local function charge_plainly(request)
  for i = 1, #request.rules do
    local limits = request.rules[i].limits
    for n = 1, #limits do
      local limit = limits[n]
      limit.algorithm.charge(limit.entry.state, limit, now)
      touch(limit.subject, limit.entry)
    end
  end
end

local function describe_plainly(request, reply)
  for _ = 1, #request.penalties do
    reply = reply .. ' 0 0 0 0'
  end
  for i = 1, #request.rules do
    local limits, outcome, text = request.rules[i].limits, ADMITTED, ''
    for n = 1, #limits do
      local limit = limits[n]
      local remaining, reset_after = limit.algorithm.report(limit.entry.state, limit, now)
      text = text .. string.format(' %d %d %d', remaining, limit.wait, reset_after)
      outcome = limit.wait == 0 and outcome or DENIED
    end
    reply = reply .. ' ' .. outcome .. text
  end
  return reply
end

local function decide()
  local request = read_request()
  if not request then
    return '2'
  end
  if not request.is_plain or request.remembered > 0 or not is_quiet(request) then
    return the_whole().decide(request)
  end
  local admitted, longest = judge_plainly(request)
  if request.consumes then
    if admitted then
      charge_plainly(request)
    elseif #request.penalties > 0 then
      -- The denial may be a violation.
      return the_whole().decide(request)
    end
    if has_moved then
      the_whole().keep_moved(request)
    end
  end
  return describe_plainly(request, admitted and '1 0 0' or string.format('0 %d 0', longest))
end
