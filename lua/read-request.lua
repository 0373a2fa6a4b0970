-- read-request.lua: the arguments of the decision script as tables. A fragment: included by decide.lua, whose header says
-- what the arguments are.
--
-- Requests of one batch are mostly alike: what they have in common is a shape, sent and parsed once. A request borrows
-- the tables of its shape while it is decided, which is over before the next one is read. What only some decisions need
-- stays text until then; see prepare in judge-request.lua.

local SHAPE_PARTS = '^(%d+) (%d+) (%d+) ()'
local PENALTY_PARTS = '^(%d+) (%d+) (%S+) ()'
local RULE_PARTS = '^(%d+) (%d+) (%d) (%d+) (%S+) (%d+) ()'
local LIMIT_PARTS = '^(%d+) (%S+) (%d) (%d+) (%d+) (%d+) (%S+) ()'

-- Most rules wait for nothing.
local NO_CONDITIONS = '-'

local function read_penalties(text, at, count)
  local penalties = {}
  for i = 1, count do
    local key, index, config
    key, index, config, at = string.match(text, PENALTY_PARTS, at)
    penalties[i] = { key_position = key * 1, index_position = index * 1, config = config }
  end
  return penalties, at
end

local function read_rule(text, at, index, penalties)
  local group, penalty, throttled, cost, after, count
  group, penalty, throttled, cost, after, count, at = string.match(text, RULE_PARTS, at)
  local limits = {}
  local rule = {
    index = index, group = group * 1, penalty = penalties[penalty * 1], throttled = throttled == '1', after = after,
    limits = limits,
  }
  cost = cost * 1
  for i = 1, count do
    local key, field, code, capacity, refill, window, full
    key, field, code, capacity, refill, window, full, at = string.match(text, LIMIT_PARTS, at)
    limits[i] = {
      key_position = key * 1, field = field, algorithm = algorithm_of(code), capacity = capacity * 1,
      refill = refill * 1, window = window * 1000000, full = full, cost = cost, entry = false, subject = false, wait = 0,
    }
  end
  return rule, at
end

local function read_shape(text)
  local keys, penalty_count, rule_count, at = string.match(text, SHAPE_PARTS)
  local penalties
  penalties, at = read_penalties(text, at, penalty_count * 1)
  local rules, is_plain = {}, true
  for i = 1, rule_count do
    local rule
    rule, at = read_rule(text, at, i, penalties)
    rules[i] = rule
    is_plain = is_plain and rule.group == 0 and rule.after == NO_CONDITIONS
  end
  return { keys = keys * 1, penalties = penalties, rules = rules, is_plain = is_plain, shadows = false }
end

local shapes = {}
local argument = 1 + ARGV[1]
for i = 2, argument do
  shapes[i - 1] = read_shape(ARGV[i])
end

-- ---- requests

-- Keys that requests before this one named.
local named = 0

-- Whose states the limits of a request are. Whether all keys hold hashes.
local function bind_limits(request, first_key)
  for i = 1, #request.rules do
    local limits = request.rules[i].limits
    for n = 1, #limits do
      local limit = limits[n]
      local subject = subject_of(KEYS[first_key + limit.key_position])
      if not subject then
        return false
      end
      limit.subject, limit.entry = subject, false
    end
  end
  return true
end

local function bind_penalties(request, first_key)
  for i = 1, #request.penalties do
    local one = request.penalties[i]
    one.text = ARGV[argument + i]
    one.key, one.index = KEYS[first_key + one.key_position], KEYS[first_key + one.index_position]
    one.subject = subject_of(one.key)
    if not one.subject then
      return false
    end
  end
  return true
end

-- nil if a key of it holds no hash.
local function read_request()
  local request, mode = shapes[ARGV[argument + 1] * 1], ARGV[argument + 2]
  argument = argument + 2
  local is_readable = bind_penalties(request, named) and bind_limits(request, named)
  argument = argument + #request.penalties
  named = named + request.keys
  request.consumes, request.remembered = mode == '1', mode - 1
  return is_readable and request or nil
end
