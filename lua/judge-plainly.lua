-- judge-plainly.lua: the decision that most requests need. A fragment: included by decide.lua before write-subjects.lua.
--
-- A request without shadow rules and conditions whose penalties have nothing to say, or a request without any: the same
-- as in judge-request.lua, without what cannot be.

-- Whose states the limits and penalties of a request are. Returns whether all keys hold hashes, and whether no penalty of
-- it ever left NORMAL or saw a violation, as far as anybody remembers.
local function bind(request, first_key, first_argument)
  local penalties, rules, is_quiet = request.penalties, request.rules, true
  for i = 1, #penalties do
    local one = penalties[i]
    local subject = subject_of(KEYS[first_key + one.key_position])
    if not subject then
      return false
    end
    one.subject, one.text, one.index = subject, ARGV[first_argument + i], KEYS[first_key + one.index_position]
    is_quiet = is_quiet and not subject.machine and not stored_in(subject, 's')
  end
  for i = 1, #rules do
    local limits = rules[i].limits
    for n = 1, #limits do
      local limit = limits[n]
      local subject = subject_of(KEYS[first_key + limit.key_position])
      if not subject then
        return false
      end
      limit.subject, limit.entry = subject, false
    end
  end
  return true, is_quiet
end

-- Judges all limits and notes in each its entry and how long it makes the request wait. Whether all of them admit, and
-- the longest wait.
local function judge_plainly(request)
  local rules, admitted, longest = request.rules, true, 0
  for i = 1, #rules do
    local limits = rules[i].limits
    for n = 1, #limits do
      local limit = limits[n]
      local algorithm, entry = limit.algorithm, entry_of(limit.subject, limit.field, limit)
      limit.entry = entry
      if algorithm.advance(entry.state, limit, now) then
        entry.moved, batch.has_moved = true, true
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

-- Charges all limits, if that is to be, and adds to the reply what is left of them.
local function settle_plainly(request, is_charged, reply)
  local rules = request.rules
  for _ = 1, #request.penalties do
    reply = reply .. ' 0 0 0 0'
  end
  for i = 1, #rules do
    local limits, outcome, text = rules[i].limits, ' 1', ''
    for n = 1, #limits do
      local limit = limits[n]
      local algorithm, entry = limit.algorithm, limit.entry
      if is_charged then
        algorithm.charge(entry.state, limit, now)
        touch(limit.subject, entry)
      end
      local remaining, reset_after = algorithm.report(entry.state, limit, now)
      text = text .. string.format(' %d %d %d', remaining, limit.wait, reset_after)
      outcome = limit.wait == 0 and outcome or ' 2'
    end
    reply = reply .. outcome .. text
  end
  return reply
end
