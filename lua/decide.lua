#!lua
-- decide.lua: atomic decisions over every rule and limit of each request of a batch, in order.
--
-- A request is admitted if and only if every rule that denies it is forgiven by a rule that waits for that denial; then
-- the limits of all rules that admit it are charged, otherwise none. Rules in shadow form groups that are judged in
-- their own right, charged as a whole, and never heard. Nothing is written before everything is read and computed. A
-- denial writes penalty state only (and after the clock of Redis stepped back, moves the state to the new time).
--
-- KEYS[1..n]   for each request the keys that its shape numbers: hashes of counters and of penalties, and indexes of
--              penalties, all in one slot; a key may be named by several requests
-- ARGV[1]      number of shapes
-- ARGV[2..]    the shapes: what requests have in common, each one text of parts between spaces
--   keys       number of keys of a request; "key" below is a number from 1 to it
--   penalties  number of them (0..16), and for each
--     key        of its hash
--     index      key of the index of subjects above NORMAL
--     enforced   1, or 0 = the machine runs and is not heard
--     tolerance  percent of the full limit that the excess meters hold; 0 = every denial is a violation
--     window     seconds within which violations count
--     min_step   seconds between two steps up
--     warn       violations, duration (s); 0 violations = the state is left out
--     throttle   violations, duration (s), percent of every limit that is left
--     temp_block violations, duration (s)
--     block      temp blocks (0 = left out), within (s), duration (s; 0 = until pardoned)
--   rules      number of them, each after those that it waits for, and for each
--     group      0 = enforced, otherwise its group of shadow rules
--     penalty    index into the penalties of the request, 0 = none
--     throttled  1 if that penalty's percentage applies to it
--     cost       what it takes from each of its limits (requests, >= 1)
--     after      number of conditions, and for each: index of a rule, outcome (1 admitted, 2 denied, 3 not run). Its own
--                index and 3: it runs, whatever becomes of the others
--     limits     number of its limits (1..16 in all rules of a request), and for each
--       key        of its hash
--       field      the field of the limit in that hash
--       algorithm  1 = token bucket, 2 = sliding window, 3 = sliding window log
--       capacity   requests: the depth of the bucket, or the most in any trailing window
--       refill     requests per window (token bucket; otherwise not used)
--       window     seconds
--       full       capacity and refill while NORMAL (requests): what the excess meter is made from
-- then for each request
--   shape      number of its shape, from 1
--   mode       1 = consume; 0 = peek: the same answer, and nothing is written; 2.. = mode - 1 denials that a pod remembered
--              and answered by itself: the request lists only the rules and limits that had denied. Nothing is judged or
--              charged, the denials fill meters, all at once; at most one violation comes of it, none while a penalty blocks
--   subjects   for each penalty whom it is about, for people (<= 256 bytes)
-- Reply        the time of Redis (microseconds), then for each request one string of numbers:
--   2                                       a key of it holds something else (WRONGTYPE)
--   <code> <retry_after> <by_throttle> <penalty>... <rule>...
--     code         1 admitted, 0 denied, 3 blocked by a penalty (rules are not judged then: all have outcome 3). Of
--                  remembered denials 0 or 3, with retry_after 0 and all outcomes 3
--     retry_after  microseconds after which the whole request would pass; 0 = now, -1 = never at these limits
--     by_throttle  1 if the request would have passed but for the percentage of a penalty
--     <penalty>    state before, state after (0 NORMAL, 1 WARN, 2 THROTTLE, 3 TEMP_BLOCK, 4 BLOCK), microseconds until
--                  the state after ends (-1 = never by itself, 0 = NORMAL), violations
--     <rule>       outcome (1 admitted, 2 denied, 3 not run, 4 denied and forgiven), then if it ran for each limit
--                  remaining (requests), retry_after (as above, of this limit alone), reset_after (microseconds)

--@include token-bucket.lua
--@include sliding-window.lua
--@include sliding-window-log.lua
--@include penalty.lua

local ALGORITHMS = { bucket, ring, log }
local ALGORITHM_OF_TAG = { [BUCKET_TAG] = bucket, [LOG_TAG] = log }

local ADMITTED, DENIED, NOT_RUN, FORGIVEN = 1, 2, 3, 4

-- The most moments that are looked at for retry_after: each limit clears, and each penalty steps down, only once.
local MOST_MOMENTS = 100

-- The time in a form that tests can replace as a whole: it is read here and nowhere else.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

--@include read-request.lua
--@include subject-states.lua
--@include judge-rules.lua

-- ---- consequences

local function charge(request, group, outcomes, states)
  for i = 1, #request.rules do
    local rule = request.rules[i]
    if rule.group == group and outcomes[i] == ADMITTED then
      for n = 1, #rule.limits do
        local limit = rule.limits[n]
        local entry = counter_of(limit)
        limit.algorithm.charge(entry.state, effective(limit, rule, states[rule.penalty]), now)
        touch(limit.subject, entry)
      end
    end
  end
end

-- Fills the excess meter of a limit with the cost of `denials` denials, as far as they fit. Whether any does not.
local function is_excess(one, limit, denials)
  local meter_limit = {
    algorithm = bucket,
    capacity = math.ceil(limit.full_capacity * one.tolerance / 100),
    refill = math.ceil((limit.algorithm == bucket and limit.full_refill or limit.full_capacity) * one.tolerance / 100),
    window = limit.window,
  }
  local meter = entry_of(one.subject, limit.field, meter_limit)
  if bucket.advance(meter.state, meter_limit, now) then
    touch(one.subject, meter)
  end
  local fitting = math.min(denials, math.floor(bucket.report(meter.state, meter_limit) / limit.cost))
  if fitting > 0 then
    meter_limit.cost = fitting * limit.cost
    bucket.charge(meter.state, meter_limit)
    touch(one.subject, meter)
  end
  return fitting < denials
end

-- What final denials mean for the penalties: fills meters, and counts at most one violation for each machine.
local function punish(request, outcomes, waits, denials)
  local excessive = {}
  for i, rule in ipairs(request.rules) do
    if rule.group == 0 and rule.penalty and outcomes[i] == DENIED then
      for n, limit in ipairs(rule.limits) do
        -- A cost that the limit never holds is a mistake of the caller, not a flood.
        if waits[i][n] ~= 0 and limit.cost <= limit.full_capacity and is_excess(rule.penalty, limit, denials) then
          excessive[rule.penalty] = true
        end
      end
    end
  end
  for one in pairs(excessive) do
    local entry = machine_of(one)
    if entry.state.state < TEMP_BLOCK and penalty.violate(entry.state, one.config, now) then
      touch(one.subject, entry)
    end
  end
end

-- Stores what had to be moved because the clock stepped back, even if the request was denied.
local function keep_moved(request)
  for _, one in ipairs(request.penalties) do
    local entry = machine_of(one)
    if entry.moved then
      touch(one.subject, entry)
    end
  end
  for _, rule in ipairs(request.rules) do
    for _, limit in ipairs(rule.limits) do
      local entry = limit.subject.states[limit.field]
      if entry and entry.moved then
        touch(limit.subject, entry)
      end
    end
  end
end

-- ---- one request

local function describe_penalties(reply, request, before)
  for _, one in ipairs(request.penalties) do
    local machine = machine_of(one).state
    local left = penalty.boundary(machine)
    left = left and left - now or machine.state == NORMAL and 0 or -1
    reply[#reply + 1] = string.format('%d %d %d %d', before[one], machine.state, left, machine.violations)
  end
end

local function describe_rules(reply, request, outcomes, waits, states)
  for i = 1, #request.rules do
    local rule = request.rules[i]
    reply[#reply + 1] = outcomes[i] or NOT_RUN
    if waits[i] then
      for n = 1, #rule.limits do
        local limit = rule.limits[n]
        local shown = effective(limit, rule, states[rule.penalty])
        local remaining, reset_after = limit.algorithm.report(counter_of(limit).state, shown, now)
        reply[#reply + 1] = string.format('%d %d %d', remaining, waits[i][n], reset_after)
      end
    end
  end
end

local function judge_shadows(request, admitted, outcomes, waits, states)
  for group in pairs(request.shadows) do
    local passes, group_outcomes, group_waits = judge(request, group, now, states)
    if passes and admitted and request.consumes then
      charge(request, group, group_outcomes, states)
    end
    for i, outcome in pairs(group_outcomes) do
      outcomes[i], waits[i] = outcome, group_waits[i]
    end
  end
end

-- Denials that a pod remembered: every limit that is listed had denied.
local function count_remembered(request, before)
  local _, blocked = penalties_at(request, now)
  if not blocked then
    local outcomes, waits = {}, {}
    for i = 1, #request.rules do
      outcomes[i], waits[i] = DENIED, {}
    end
    punish(request, outcomes, waits, request.remembered)
  end
  if has_moved then
    keep_moved(request)
  end
  local reply = { blocked and '3 0 0' or '0 0 0' }
  describe_penalties(reply, request, before)
  describe_rules(reply, request, {}, {}, {})
  return table.concat(reply, ' ')
end

-- A request without penalties, shadow rules and conditions, which most are: the same as below, without what cannot be.
local function decide_plain(request)
  local limits, admitted, longest = request.limits, true, 0
  for i = 1, #limits do
    local limit = limits[i]
    local entry = counter_of(limit)
    if limit.algorithm.advance(entry.state, limit, now) then
      entry.moved, has_moved = true, true
    end
    local admits, wait = limit.algorithm.evaluate(entry.state, limit, now)
    limit.wait = wait
    if not admits then
      admitted = false
      longest = (wait == -1 or longest == -1) and -1 or math.max(longest, wait)
    end
  end
  for i = 1, admitted and request.consumes and #limits or 0 do
    local limit = limits[i]
    limit.algorithm.charge(limit.entry.state, limit, now)
    touch(limit.subject, limit.entry)
  end
  if has_moved and request.consumes then
    keep_moved(request)
  end
  local reply = { admitted and '1 0 0' or string.format('0 %d 0', longest) }
  for i = 1, #request.rules do
    local rule, outcome = request.rules[i], ADMITTED
    reply[#reply + 1] = ADMITTED
    local at = #reply
    for n = 1, #rule.limits do
      local limit = rule.limits[n]
      local remaining, reset_after = limit.algorithm.report(limit.entry.state, limit, now)
      reply[#reply + 1] = string.format('%d %d %d', remaining, limit.wait, reset_after)
      outcome = limit.wait == 0 and outcome or DENIED
    end
    reply[at] = outcome
  end
  return table.concat(reply, ' ')
end

local function decide()
  local request = read_request()
  if not request.readable then
    return '2'
  end
  if request.is_plain and request.remembered <= 0 then
    return decide_plain(request)
  end
  local before = {}
  for _, one in ipairs(request.penalties) do
    before[one] = machine_of(one).state.state
  end
  if request.remembered > 0 then
    return count_remembered(request, before)
  end
  local states, blocked = penalties_at(request, now)
  local admitted, outcomes, waits = false, {}, {}
  local wait, by_throttle = 0, 0
  if not blocked then
    admitted, outcomes, waits = judge(request, 0, now, states)
    local throttles = false
    for _, state in pairs(states) do
      throttles = throttles or state == THROTTLE
    end
    if not admitted then
      by_throttle = throttles and judge(request, 0, now, WITHOUT_PENALTIES) and 1 or 0
      if request.consumes then
        punish(request, outcomes, waits, 1)
      end
    elseif request.consumes then
      charge(request, 0, outcomes, states)
    end
    judge_shadows(request, admitted, outcomes, waits, states)
  end
  if has_moved and request.consumes then
    keep_moved(request)
  end
  if not admitted then
    wait = retry_after(request)
  end
  local reply = { string.format('%d %d %d', blocked and 3 or admitted and 1 or 0, wait, by_throttle) }
  describe_penalties(reply, request, before)
  describe_rules(reply, request, outcomes, waits, states)
  return table.concat(reply, ' ')
end

--@include index-penalties.lua
--@include write-subjects.lua

local replies = { string.format('%.0f', now) }
while argument < #ARGV do
  replies[#replies + 1] = decide()
end
for key, subject in pairs(subjects) do
  if subject and subject.dirty then
    store(key, subject)
  end
end
return replies
