-- read-request.lua: what requests have in common, as tables. A fragment: included by decide.lua, whose header says what
-- the arguments are.
--
-- Requests of one batch are mostly alike: what they have in common is a shape, sent and parsed once. A request borrows
-- the tables of its shape while it is decided, which is over before the next one is read. What only some decisions need
-- stays text until then; see prepare in judge-request.lua.

local function read_rule(text, at, index, penalties)
  local group, penalty, throttled, cost, after, count
  group, penalty, throttled, cost, after, count, at = string.match(text, '^(%d+) (%d+) (%d) (%d+) (%S+) (%d+) ()', at)
  local limits = {}
  cost = cost * 1
  for i = 1, count do
    local key, field, code, capacity, refill, window, full
    key, field, code, capacity, refill, window, full, at =
      string.match(text, '^(%d+) (%S+) (%d) (%d+) (%d+) (%d+) (%S+) ()', at)
    limits[i] = {
      key_position = key * 1, field = field, algorithm = algorithm_of(code), capacity = capacity * 1,
      refill = refill * 1, window = window * 1000000, full = full, cost = cost, entry = false, subject = false, wait = 0,
    }
  end
  return {
    index = index, group = group * 1, penalty = penalties[penalty * 1], throttled = throttled == '1', after = after,
    limits = limits,
  }, at
end

local function read_shape(text)
  local keys, penalty_count, rule_count, at = string.match(text, '^(%d+) (%d+) (%d+) ()')
  local penalties, rules, is_plain = {}, {}, true
  for i = 1, penalty_count do
    local key, index, config
    key, index, config, at = string.match(text, '^(%d+) (%d+) (%S+) ()', at)
    penalties[i] = { key_position = key * 1, index_position = index * 1, config = config }
  end
  for i = 1, rule_count do
    local rule
    rule, at = read_rule(text, at, i, penalties)
    rules[i] = rule
    is_plain = is_plain and rule.group == 0 and rule.after == '-'
  end
  return { keys = keys * 1, penalties = penalties, rules = rules, is_plain = is_plain, shadows = false }
end
