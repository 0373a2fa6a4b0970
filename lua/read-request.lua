-- read-request.lua: the arguments of the decision script as tables. A fragment: included by decide.lua, whose header says
-- what the arguments are. Needs the algorithms, and reads each hash once, when a request first names it.

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
  local key_index = next_number()
  local one = { key_index = key_index, subject = subject_of(key_index), index = next_number() }
  one.enforced = next_number() == 1
  one.text = next_text()
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
  local mode = next_number()
  local request = { consumes = mode == 1, remembered = mode - 1, penalties = {}, rules = {}, shadows = {}, readable = true }
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
