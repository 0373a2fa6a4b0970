-- read-request.lua: the arguments of the decision script as tables. A fragment: included by decide.lua, whose header says
-- what the arguments are. Needs the algorithms, and reads each hash once, when a request first names it.
--
-- Requests of one batch are mostly alike: what they have in common is a shape, sent and parsed once. A request borrows
-- the tables of its shape while it is decided, which is over before the next one is read.

-- One hash as read, and the states of it that were computed since, by key. `false`: the key holds no hash.
local subjects = {}

local function subject_of(key)
  local subject = subjects[key]
  if subject == nil then
    local reply = redis.pcall('HGETALL', key)
    if reply.err then
      subject = false
    else
      local stored = {}
      for i = 1, #reply, 2 do
        stored[reply[i]] = reply[i + 1]
      end
      subject = { stored = stored, states = {}, dirty = false }
    end
    subjects[key] = subject
  end
  return subject
end

-- ---- shapes

-- The parts of the shape that is being read, and how many of them were.
local parts, taken

local function next_text()
  taken = taken + 1
  return parts[taken]
end

local function next_number()
  taken = taken + 1
  return tonumber(parts[taken])
end

local function read_penalty()
  local one = { key_position = next_number(), index_position = next_number(), enforced = next_number() == 1 }
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
    key_position = next_number(),
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

local function read_shape(text)
  parts, taken = {}, 0
  for part in string.gmatch(text, '%S+') do
    parts[#parts + 1] = part
  end
  local shape = { keys = next_number(), penalties = {}, rules = {}, limits = {}, shadows = {}, is_plain = true }
  for i = 1, next_number() do
    shape.penalties[i] = read_penalty()
    shape.is_plain = false
  end
  for i = 1, next_number() do
    local rule = read_rule(shape.penalties, i)
    shape.rules[i] = rule
    if rule.group ~= 0 then
      shape.shadows[rule.group] = true
      shape.is_plain = false
    end
    if rule.after ~= NO_CONDITIONS then
      register(rule, shape.rules)
      shape.is_plain = false
    end
    for n = 1, #rule.limits do
      shape.limits[#shape.limits + 1] = rule.limits[n]
    end
  end
  return shape
end

local shapes = {}
local argument = 1 + tonumber(ARGV[1])
for i = 2, argument do
  shapes[i - 1] = read_shape(ARGV[i])
end

-- ---- requests

-- Keys that requests before this one named.
local named = 0

local function read_request()
  local request, mode = shapes[tonumber(ARGV[argument + 1])], tonumber(ARGV[argument + 2])
  argument = argument + 2
  request.consumes, request.remembered, request.readable = mode == 1, mode - 1, true
  for i = 1, #request.penalties do
    local one = request.penalties[i]
    argument = argument + 1
    one.text = ARGV[argument]
    one.key, one.index = KEYS[named + one.key_position], KEYS[named + one.index_position]
    one.subject = subject_of(one.key)
    request.readable = request.readable and one.subject
  end
  for i = 1, #request.limits do
    local limit = request.limits[i]
    limit.subject, limit.entry = subject_of(KEYS[named + limit.key_position]), nil
    request.readable = request.readable and limit.subject
  end
  named = named + request.keys
  return request
end
