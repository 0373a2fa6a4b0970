#!lua
-- decide.lua: atomic decisions over every rule and limit of each request of a batch, in order.
--
-- A request is admitted if and only if every rule that denies it is forgiven by a rule that waits for that denial; then
-- the limits of all rules that admit it are charged, otherwise none. Rules in shadow form groups that are judged in
-- their own right, charged as a whole, and never heard. Nothing is written before everything is read and computed. A
-- denial writes penalty state only (and after the clock of Redis stepped back, moves the state to the new time).
--
-- KEYS[1..n]   hashes of counters and of penalties, in one slot
-- ARGV[1]      number of requests
-- then for each request
--   mode       1 = consume, 0 = peek: the same answer, and nothing is written
--   penalties  number of them (0..16), and for each
--     key        index into KEYS
--     enforced   1, or 0 = the machine runs and is not heard
--     subject    its text, for people (<= 256 bytes)
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
--     after      number of conditions, and for each: index of a rule, outcome (1 admitted, 2 denied, 3 not run)
--     limits     number of its limits (1..16 in all rules of a request), and for each
--       key        index into KEYS
--       field      the field of the limit in that hash
--       algorithm  1 = token bucket, 2 = sliding window, 3 = sliding window log
--       capacity   requests: the depth of the bucket, or the most in any trailing window
--       refill     requests per window (token bucket; otherwise not used)
--       window     seconds
--       full       capacity and refill while NORMAL (requests): what the excess meter is made from
-- Reply        the time of Redis (microseconds), then for each request one string of numbers:
--   2                                       a key of it holds something else (WRONGTYPE)
--   <code> <retry_after> <by_throttle> <penalty>... <rule>...
--     code         1 admitted, 0 denied, 3 blocked by a penalty (rules are not judged then: all have outcome 3)
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

-- ---- arguments

local argument = 1
local function next_text()
  argument = argument + 1
  return ARGV[argument]
end
local function next_number()
  argument = argument + 1
  return tonumber(ARGV[argument])
end

-- One hash as read, and the states of it that were computed since. `false`: its key holds no hash.
local subjects = {}

local function subject_of(key_index)
  local subject = subjects[key_index]
  if subject == nil then
    local reply = redis.pcall('HGETALL', KEYS[key_index])
    if reply.err then
      subject = false
    else
      subject = { stored = {}, states = {}, dirty = false }
      for i = 1, #reply, 2 do
        subject.stored[reply[i]] = reply[i + 1]
      end
    end
    subjects[key_index] = subject
  end
  return subject
end

local function read_penalty()
  local one = { subject = subject_of(next_number()), enforced = next_number() == 1, text = next_text() }
  one.tolerance = next_number()
  local config = { window = next_number() * 1000000, min_step = next_number() * 1000000, violations = {}, duration = {} }
  for state = WARN, TEMP_BLOCK do
    local violations, duration = next_number(), next_number()
    if violations > 0 then
      config.violations[state], config.duration[state] = violations, duration * 1000000
    end
    if state == THROTTLE then
      one.percent = next_number()
    end
  end
  config.block_after, config.block_within = next_number(), next_number() * 1000000
  config.duration[BLOCK] = next_number() * 1000000
  one.config = config
  return one
end

local function read_limit(cost)
  return {
    subject = subject_of(next_number()),
    field = next_text(),
    algorithm = ALGORITHMS[next_number()],
    capacity = next_number(),
    refill = next_number(),
    window = next_number() * 1000000,
    full_capacity = next_number(),
    full_refill = next_number(),
    cost = cost,
  }
end

-- Most rules wait for nothing: they share one empty list.
local NO_CONDITIONS = {}

local function read_conditions(count)
  if count == 0 then
    return NO_CONDITIONS
  end
  local conditions = {}
  for i = 1, count do
    conditions[i] = { rule = next_number(), outcome = next_number() }
  end
  return conditions
end

local function read_rule(penalties, index)
  local group, penalty_index, throttled, cost = next_number(), next_number(), next_number(), next_number()
  local rule = {
    index = index,
    group = group,
    penalty = penalties[penalty_index],
    throttled = throttled == 1,
    after = read_conditions(next_number()),
    waiters = nil,
    limits = {},
  }
  for i = 1, next_number() do
    rule.limits[i] = read_limit(cost)
  end
  return rule
end

-- Notes for each rule that `rule` waits for that it is waited for.
local function register(rule, rules)
  for i = 1, #rule.after do
    local condition = rule.after[i]
    local waited_for = rules[condition.rule]
    if condition.outcome == DENIED and waited_for.group == rule.group then
      waited_for.waiters = waited_for.waiters or {}
      waited_for.waiters[#waited_for.waiters + 1] = rule
    end
  end
end

local function read_request()
  local request = { consumes = next_number() == 1, penalties = {}, rules = {}, shadows = {}, readable = true }
  for i = 1, next_number() do
    request.penalties[i] = read_penalty()
    request.readable = request.readable and request.penalties[i].subject
  end
  for i = 1, next_number() do
    local rule = read_rule(request.penalties, i)
    request.rules[i] = rule
    if rule.group ~= 0 then
      request.shadows[rule.group] = true
    end
    if rule.after ~= NO_CONDITIONS then
      register(rule, request.rules)
      request.has_conditions = true
    end
    for n = 1, #rule.limits do
      request.readable = request.readable and rule.limits[n].subject
    end
  end
  return request
end

-- ---- states

-- Whether any state had to be moved because the clock stepped back.
local has_moved = false

local function entry_of(subject, field, limit)
  local entry = subject.states[field]
  if not entry then
    entry = { state = limit.algorithm.read(subject.stored[field], now, limit), limit = limit, changed = false }
    subject.states[field] = entry
  end
  return entry
end

-- The entry of a limit; looked up once.
local function counter_of(limit)
  local entry = limit.entry
  if not entry then
    entry = entry_of(limit.subject, limit.field, limit)
    limit.entry = entry
  end
  return entry
end

local function touch(subject, entry)
  entry.changed, subject.dirty = true, true
end

-- The state of a penalty, advanced to now.
local function machine_of(one)
  local entry = one.subject.states[PENALTY_FIELD]
  if not entry then
    entry = { state = penalty.read(one.subject.stored[PENALTY_FIELD]), penalty = one, changed = false }
    one.subject.states[PENALTY_FIELD] = entry
  end
  if penalty.advance(entry.state, one.config, now) then
    entry.moved, has_moved = true, true
  end
  return entry
end

local function copy(state)
  local copied = {}
  for name, value in pairs(state) do
    if type(value) == 'table' then
      local list = {}
      for i = 1, #value do
        list[i] = value[i]
      end
      value = list
    end
    copied[name] = value
  end
  return copied
end

-- ---- judging

local function percent_of(value, percent)
  if value == 0 then
    return 0
  end
  return math.max(1, math.floor(value * percent / 100))
end

-- The limit as it is for a rule whose penalty is in `state`.
local function effective(limit, rule, state)
  if state ~= THROTTLE or not rule.throttled then
    return limit
  end
  return {
    algorithm = limit.algorithm,
    capacity = percent_of(limit.capacity, rule.penalty.percent),
    refill = percent_of(limit.refill, rule.penalty.percent),
    window = limit.window,
    cost = limit.cost,
  }
end

local function runs(rule, rules, outcomes)
  if rule.after == NO_CONDITIONS then
    return true
  end
  for i = 1, #rule.after do
    local condition = rule.after[i]
    local other = rules[condition.rule]
    -- Rules of another group are not heard: they have not run.
    local outcome = other.group == rule.group and outcomes[condition.rule] or NOT_RUN
    if outcome == condition.outcome then
      return true
    end
  end
  return false
end

-- Judges one rule at `at`; the states are those at now and stay as they are.
local function judge_rule(rule, at, state)
  local admits_all, waits = true, {}
  for i = 1, #rule.limits do
    local limit = rule.limits[i]
    local entry = counter_of(limit)
    local current = entry.state
    if at > now then
      current = copy(current)
      limit.algorithm.advance(current, limit, at)
    elseif limit.algorithm.advance(current, limit, now) then
      entry.moved, has_moved = true, true
    end
    local admits, wait = limit.algorithm.evaluate(current, effective(limit, rule, state), at)
    waits[i] = wait
    admits_all = admits_all and admits
  end
  return admits_all and ADMITTED or DENIED, waits
end

local function is_forgiven(rule, outcomes)
  for _, waiter in ipairs(rule.waiters or NO_CONDITIONS) do
    local outcome = outcomes[waiter.index]
    if outcome == ADMITTED or outcome == FORGIVEN or (outcome == DENIED and is_forgiven(waiter, outcomes)) then
      return true
    end
  end
  return false
end

-- Judges one group at `at`, with the states that penalties have then (without: as if they left every limit whole).
-- Returns whether it passes, the outcomes of its rules and the waits of their limits.
local function judge(request, group, at, states)
  local outcomes, waits, has_denied = {}, {}, false
  for i = 1, #request.rules do
    local rule = request.rules[i]
    if rule.group == group then
      outcomes[i] = NOT_RUN
      if runs(rule, request.rules, outcomes) then
        outcomes[i], waits[i] = judge_rule(rule, at, states[rule.penalty])
        has_denied = has_denied or outcomes[i] == DENIED
      end
    end
  end
  local passes = true
  for i = 1, has_denied and #request.rules or 0 do
    if outcomes[i] == DENIED then
      if is_forgiven(request.rules[i], outcomes) then
        outcomes[i] = FORGIVEN
      else
        passes = false
      end
    end
  end
  return passes, outcomes, waits
end

-- ---- retry_after

-- The states of all heard penalties at `at`, whether one of them blocks, and the first moment after `at` at which one
-- of them changes (nil if none does).
local function penalties_at(request, at)
  local states, blocked, boundary = {}, false, nil
  for _, one in ipairs(request.penalties) do
    if one.enforced then
      local machine = copy(machine_of(one).state)
      penalty.advance(machine, one.config, at)
      states[one] = machine.state
      blocked = blocked or machine.state >= TEMP_BLOCK
      local change = penalty.boundary(machine)
      if change and (not boundary or change < boundary) then
        boundary = change
      end
    end
  end
  return states, blocked, boundary
end

local function nearest(at, boundary, outcomes, waits)
  local moment = boundary
  for i, list in pairs(waits) do
    if outcomes[i] ~= ADMITTED then
      for _, wait in ipairs(list) do
        if wait > 0 and (not moment or at + wait < moment) then
          moment = at + wait
        end
      end
    end
  end
  return moment
end

-- The first moment at which the whole request passes, without other traffic: walks over the moments at which a denied
-- limit clears or a penalty steps down.
local function retry_after(request)
  local at = now
  for _ = 1, MOST_MOMENTS do
    local states, blocked, boundary = penalties_at(request, at)
    local moment = boundary
    if not blocked then
      local passes, outcomes, waits = judge(request, 0, at, states)
      if passes then
        return at - now
      end
      moment = nearest(at, boundary, outcomes, waits)
    end
    if not moment then
      return -1
    end
    at = moment
  end
  return -1
end

-- The same where no rule waits for another and no penalty is in the way: the longest wait.
local function longest_wait(request, outcomes, waits)
  local longest = 0
  for i, list in pairs(waits) do
    if outcomes[i] == DENIED and request.rules[i].group == 0 then
      for _, wait in ipairs(list) do
        if wait == -1 then
          return -1
        end
        longest = math.max(longest, wait)
      end
    end
  end
  return longest
end

-- ---- consequences

local function charge(request, group, outcomes)
  for i = 1, #request.rules do
    local rule = request.rules[i]
    if rule.group == group and outcomes[i] == ADMITTED then
      for n = 1, #rule.limits do
        local limit = rule.limits[n]
        local entry = counter_of(limit)
        limit.algorithm.charge(entry.state, limit, now)
        touch(limit.subject, entry)
      end
    end
  end
end

-- Whether the excess meter of a denied limit is full; otherwise it takes the cost.
local function is_excess(one, limit)
  local meter_limit = {
    algorithm = bucket,
    capacity = math.ceil(limit.full_capacity * one.tolerance / 100),
    refill = math.ceil((limit.algorithm == bucket and limit.full_refill or limit.full_capacity) * one.tolerance / 100),
    window = limit.window,
    cost = limit.cost,
  }
  local meter = entry_of(one.subject, limit.field, meter_limit)
  if bucket.advance(meter.state, meter_limit, now) then
    touch(one.subject, meter)
  end
  if not bucket.evaluate(meter.state, meter_limit) then
    return true
  end
  bucket.charge(meter.state, meter_limit)
  touch(one.subject, meter)
  return false
end

-- What a final denial means for the penalties: fills meters, and counts at most one violation for each machine.
local function punish(request, outcomes, waits)
  local excessive = {}
  for i, rule in ipairs(request.rules) do
    if rule.group == 0 and rule.penalty and outcomes[i] == DENIED then
      for n, limit in ipairs(rule.limits) do
        -- A cost that the limit never holds is a mistake of the caller, not a flood.
        if waits[i][n] ~= 0 and limit.cost <= limit.full_capacity and is_excess(rule.penalty, limit) then
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
    reply[#reply + 1] = string.format('%.0f %.0f %.0f %.0f', before[one], machine.state, left, machine.violations)
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
        reply[#reply + 1] = string.format('%.0f %.0f %.0f', remaining, waits[i][n], reset_after)
      end
    end
  end
end

local function judge_shadows(request, admitted, outcomes, waits, states)
  for group in pairs(request.shadows) do
    local passes, group_outcomes, group_waits = judge(request, group, now, states)
    if passes and admitted and request.consumes then
      charge(request, group, group_outcomes)
    end
    for i, outcome in pairs(group_outcomes) do
      outcomes[i], waits[i] = outcome, group_waits[i]
    end
  end
end

local function decide()
  local request = read_request()
  if not request.readable then
    return '2'
  end
  local before = {}
  for _, one in ipairs(request.penalties) do
    before[one] = machine_of(one).state.state
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
      by_throttle = throttles and judge(request, 0, now, {}) and 1 or 0
      if request.consumes then
        punish(request, outcomes, waits)
      end
    elseif request.consumes then
      charge(request, 0, outcomes)
    end
    judge_shadows(request, admitted, outcomes, waits, states)
  end
  if has_moved and request.consumes then
    keep_moved(request)
  end
  if not admitted then
    local is_plain = not blocked and not request.has_conditions and #request.penalties == 0
    wait = is_plain and longest_wait(request, outcomes, waits) or retry_after(request)
  end
  local reply = { string.format('%.0f %.0f %.0f', blocked and 3 or admitted and 1 or 0, wait, by_throttle) }
  describe_penalties(reply, request, before)
  describe_rules(reply, request, outcomes, waits, states)
  return table.concat(reply, ' ')
end

-- ---- writing

-- The microseconds for which a changed entry says anything, nil = for ever.
local function matters_for(entry, packed)
  if entry.penalty then
    return penalty.matters_for(entry.state, entry.penalty.config, now)
  end
  return entry.limit.algorithm.recovers_in(packed, now)
end

local function is_recovered(field, packed)
  if field == PENALTY_FIELD or field == 't' then
    return false
  end
  local algorithm = ALGORITHM_OF_TAG[string.byte(packed)] or ring
  return #packed < 13 or algorithm.recovers_in(packed, now) <= 0
end

-- Writes what changed of one hash, drops what has recovered and was not used, and extends the time to live to the
-- last recovery. A time to live is never shortened: other fields of the hash may need it.
local function store(key, subject)
  local changed, recovered, longest, is_forever = {}, {}, 0, false
  for field, entry in pairs(subject.states) do
    if entry.changed then
      local packed = entry.penalty and penalty.write(entry.state) or entry.limit.algorithm.write(entry.state, entry.limit)
      changed[#changed + 1] = field
      changed[#changed + 1] = packed
      if entry.penalty then
        changed[#changed + 1] = 't'
        changed[#changed + 1] = entry.penalty.text
      end
      local matters = matters_for(entry, packed)
      is_forever = is_forever or not matters
      longest = math.max(longest, matters or 0)
    end
  end
  for field, packed in pairs(subject.stored) do
    if not subject.states[field] and is_recovered(field, packed) then
      recovered[#recovered + 1] = field
    end
  end
  redis.call('HSET', key, unpack(changed))
  -- In parts: Lua cannot unpack more than some thousands of values.
  for first = 1, #recovered, 1000 do
    redis.call('HDEL', key, unpack(recovered, first, math.min(first + 999, #recovered)))
  end
  local ttl = math.ceil(longest / 1000) + 1000
  if is_forever then
    redis.call('PERSIST', key)
  elseif ttl > redis.call('PTTL', key) then
    redis.call('PEXPIRE', key, string.format('%.0f', ttl))
  end
end

local replies = { string.format('%.0f', now) }
for i = 1, tonumber(ARGV[1]) do
  replies[i + 1] = decide()
end
for key_index, subject in pairs(subjects) do
  if subject and subject.dirty then
    store(KEYS[key_index], subject)
  end
end
return replies
