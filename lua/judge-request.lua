-- judge-request.lua: the decision with everything that a request can have: penalties, shadow rules, conditions, remembered
-- denials, a clock that stepped back. A fragment: included by decide.lua after judge-rules.lua, made on first use.

-- ---- what of a shape is text until here

local function read_config(one)
  local numbers = {}
  for digits in string.gmatch(one.config, '%d+') do
    numbers[#numbers + 1] = tonumber(digits)
  end
  local config = { window = numbers[3] * 1000000, min_step = numbers[4] * 1000000, violations = {}, duration = {} }
  for state, first in pairs({ [WARN] = 5, [THROTTLE] = 7, [TEMP_BLOCK] = 10 }) do
    if numbers[first] > 0 then
      config.violations[state], config.duration[state] = numbers[first], numbers[first + 1] * 1000000
    end
  end
  config.block_after, config.block_within, config.duration[BLOCK] = numbers[12], numbers[13] * 1000000, numbers[14] * 1000000
  one.enforced, one.tolerance, one.percent, one.config = numbers[1] == 1, numbers[2], numbers[9], config
end

-- Notes for each rule that `rule` waits for that it is waited for.
local function read_conditions(rule, rules)
  local conditions = {}
  for other, outcome in string.gmatch(rule.after, '(%d+):(%d+)') do
    local condition = { rule = tonumber(other), outcome = tonumber(outcome) }
    conditions[#conditions + 1] = condition
    local waited_for = rules[condition.rule]
    if condition.outcome == DENIED and waited_for.group == rule.group then
      waited_for.waiters = waited_for.waiters or {}
      waited_for.waiters[#waited_for.waiters + 1] = rule
    end
  end
  rule.conditions = conditions
end

-- Once for each shape.
local function prepare(shape)
  if shape.shadows then
    return
  end
  shape.shadows = {}
  for i = 1, #shape.penalties do
    read_config(shape.penalties[i])
  end
  for i = 1, #shape.rules do
    local rule = shape.rules[i]
    read_conditions(rule, shape.rules)
    if rule.group ~= 0 then
      shape.shadows[rule.group] = true
    end
  end
end

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

-- The capacity and the refill of a limit while NORMAL.
local function full_of(limit)
  local capacity, refill = string.match(limit.full, '(%d+),(%d+)')
  return tonumber(capacity), tonumber(refill)
end

-- Fills the excess meter of a limit with the cost of `denials` denials, as far as they fit. Whether any does not.
local function is_excess(one, limit, denials)
  local full_capacity, full_refill = full_of(limit)
  local bucket = algorithm_of('1')
  local meter_limit = {
    algorithm = bucket,
    capacity = math.ceil(full_capacity * one.tolerance / 100),
    refill = math.ceil((limit.algorithm == bucket and full_refill or full_capacity) * one.tolerance / 100),
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
        if waits[i][n] ~= 0 and limit.cost <= full_of(limit) and is_excess(rule.penalty, limit, denials) then
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
  prepare(request)
  for _, one in ipairs(request.penalties) do
    local entry = machine_of(one)
    if entry.moved then
      touch(one.subject, entry)
    end
  end
  for _, rule in ipairs(request.rules) do
    for _, limit in ipairs(rule.limits) do
      local entry = found_in(limit.subject, limit.field)
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
  if batch.has_moved then
    keep_moved(request)
  end
  local reply = { blocked and '3 0 0' or '0 0 0' }
  describe_penalties(reply, request, before)
  describe_rules(reply, request, {}, {}, {})
  return table.concat(reply, ' ')
end

local function decide_whole(request)
  prepare(request)
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
  if batch.has_moved and request.consumes then
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

