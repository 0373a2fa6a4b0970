-- judge-rules.lua: which rules admit a request, and when all of them would. A fragment: included by decide.lua after
-- penalty.lua. Judging charges nothing: it can be asked about any later moment.
--
-- A rule without conditions runs; otherwise it runs if one of them holds. A rule that ran and denies is forgiven if a rule
-- that waits for that denial ran and admits, or is forgiven itself. A group passes if no denial is left.

-- ---- states

-- The entry of a limit; looked up once.
local function counter_of(limit)
  local entry = limit.entry
  if not entry then
    entry = entry_of(limit.subject, limit.field, limit)
    limit.entry = entry
  end
  return entry
end

-- The state of a penalty, advanced to now.
local function machine_of(one)
  local subject = one.subject
  local entry = subject.machine
  if not entry then
    entry = {
      state = penalty.read(stored_in(subject, PENALTY_FIELD)), config = one.config, text = one.text, key = subject.key,
      index = one.index, changed = false, moved = false,
    }
    subject.machine = entry
  end
  if penalty.advance(entry.state, one.config, now) then
    entry.moved, batch.has_moved = true, true
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

-- ---- rules

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
  if rule.after == '-' then
    return true
  end
  for i = 1, #rule.conditions do
    local condition = rule.conditions[i]
    local other = rules[condition.rule]
    -- A rule that waits for itself to be not run has not been, until now. Rules of another group are not heard: they have not run.
    local outcome = other.group == rule.group and outcomes[condition.rule] or NOT_RUN
    if outcome == condition.outcome then
      return true
    end
  end
  return false
end

-- What states to judge with when penalties are to be left out.
local WITHOUT_PENALTIES = {}

-- Judges one rule at `at` while its penalty is in `state`. What is only supposed leaves the state of the limits as it is.
local function judge_rule(rule, at, state, is_supposed)
  local admits_all, waits = true, {}
  for i = 1, #rule.limits do
    local limit = effective(rule.limits[i], rule, state)
    local entry = counter_of(rule.limits[i])
    local current = entry.state
    if is_supposed then
      current = copy(current)
      limit.algorithm.advance(current, limit, at)
    elseif limit.algorithm.advance(current, limit, now) then
      entry.moved, batch.has_moved = true, true
    end
    local admits, wait = limit.algorithm.evaluate(current, limit, at)
    waits[i] = wait
    admits_all = admits_all and admits
  end
  return admits_all and ADMITTED or DENIED, waits
end

local function is_forgiven(rule, outcomes)
  for i = 1, rule.waiters and #rule.waiters or 0 do
    local waiter = rule.waiters[i]
    local outcome = outcomes[waiter.index]
    if outcome == ADMITTED or outcome == FORGIVEN or (outcome == DENIED and is_forgiven(waiter, outcomes)) then
      return true
    end
  end
  return false
end

-- Judges one group at `at`, with the states that penalties have then, or WITHOUT_PENALTIES.
-- Returns whether it passes, the outcomes of its rules and the waits of their limits.
local function judge(request, group, at, states)
  local outcomes, waits, has_denied = {}, {}, false
  local is_supposed = at > now or states == WITHOUT_PENALTIES
  for i = 1, #request.rules do
    local rule = request.rules[i]
    if rule.group == group then
      outcomes[i] = NOT_RUN
      if runs(rule, request.rules, outcomes) then
        outcomes[i], waits[i] = judge_rule(rule, at, states[rule.penalty], is_supposed)
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

-- The most moments that are looked at for retry_after: each limit clears, and each penalty steps down, only once.
local MOST_MOMENTS = 100

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
