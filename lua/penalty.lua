-- penalty.lua: the penalty state machine. A fragment: included by the scripts that need it.
--
--   NORMAL (0) -> WARN (1) -> THROTTLE (2) -> TEMP_BLOCK (3) -> BLOCK (4)
--
-- Up: one state at a time, when the violations reach the next state's threshold, and not before min_step after the
-- last step. The temp block that would be number block_after inside block_within becomes BLOCK at once. Down: when
-- `until` passes, one state, each lower one lasting its own time from that moment; BLOCK falls to NORMAL. States that
-- the policy leaves out (duration nil) are skipped. Everything is computed when it is looked at: an idle subject
-- costs nothing, and any idle time takes at most three steps.
--
-- A violation is a denial beyond what the excess meter of its limit holds: a bucket as in token-bucket.lua, of the
-- limit's full normal value, charged by final denials only. So who stays below about twice the limit never has one.
-- At most one violation a second counts.
--
-- State: field 's', 52 bytes: tag 'p', state (B), since, expires, violations_since, temp_blocks_since, last_step,
-- last_violation (i7 each, microseconds), violations (I4), temp_blocks (I4). Field 't': the subject's text, for
-- people. Field 'd', 8 bytes: what WARN and THROTTLE last (I4 each, seconds, 0 = left out), so that who lists states need
-- not know the policy. Meters: a field for each limit, named as its counter's. `expires` 0 = never.

local PENALTY_TAG = 112
local PENALTY_FORMAT = '>BBi7i7i7i7i7i7I4I4'
local PENALTY_LENGTH = 52
local DURATIONS_FORMAT = '>I4I4'
local MOST_VIOLATIONS = 1000000
local FOREVER = 0

local NORMAL, WARN, THROTTLE, TEMP_BLOCK, BLOCK = 0, 1, 2, 3, 4

local penalty = {}

-- A time at which nothing has happened yet, for every window long past.
local LONG_AGO = -9007199254740992

function penalty.read(packed)
  if not packed or #packed ~= PENALTY_LENGTH or string.byte(packed) ~= PENALTY_TAG then
    return {
      state = NORMAL, since = 0, expires = 0, violations_since = LONG_AGO, temp_blocks_since = LONG_AGO,
      last_step = LONG_AGO, last_violation = LONG_AGO, violations = 0, temp_blocks = 0,
    }
  end
  local _, state, since, expires, violations_since, temp_blocks_since, last_step, last_violation, violations, temp_blocks =
    struct.unpack(PENALTY_FORMAT, packed)
  return {
    state = state, since = since, expires = expires, violations_since = violations_since,
    temp_blocks_since = temp_blocks_since, last_step = last_step, last_violation = last_violation,
    violations = violations, temp_blocks = temp_blocks,
  }
end

function penalty.write(p)
  return struct.pack(PENALTY_FORMAT, PENALTY_TAG, p.state, p.since, p.expires, p.violations_since, p.temp_blocks_since,
    p.last_step, p.last_violation, p.violations, p.temp_blocks)
end

function penalty.write_durations(config)
  local durations = config.duration
  return struct.pack(DURATIONS_FORMAT, (durations[WARN] or 0) / 1000000, (durations[THROTTLE] or 0) / 1000000)
end

-- As much of the policy's penalty as is needed to tell the state of a machine.
function penalty.read_durations(packed)
  local config = { violations = {}, duration = {} }
  if packed and #packed == 8 then
    local warn, throttle = struct.unpack(DURATIONS_FORMAT, packed)
    config.duration[WARN] = warn > 0 and warn * 1000000 or nil
    config.duration[THROTTLE] = throttle > 0 and throttle * 1000000 or nil
  end
  return config
end

-- The violations that a state begins with: its own threshold.
local function floor_of(config, state)
  return state == NORMAL and 0 or config.violations[state] or 0
end

-- The state below, of those that the policy has.
local function below(config, state)
  for candidate = state - 1, WARN, -1 do
    if config.duration[candidate] then
      return candidate
    end
  end
  return NORMAL
end

-- After the clock stepped back, everything moves with it: a block must not last until the old time returns.
local function rebase(p, now)
  local ahead = math.max(p.since, p.last_violation) - now
  if not (ahead > 0) then
    return false
  end
  for _, name in ipairs({ 'since', 'violations_since', 'temp_blocks_since', 'last_step', 'last_violation' }) do
    p[name] = math.max(p[name] - ahead, LONG_AGO)
  end
  if p.expires ~= FOREVER then
    p.expires = p.expires - ahead
  end
  return true
end

-- Brings the machine to `at`, in place, in closed form. Returns whether that has to be stored: steps down need not,
-- they are computed again from what is stored.
function penalty.advance(p, config, at)
  local rebased = rebase(p, at)
  while p.state ~= NORMAL and p.expires ~= FOREVER and p.expires <= at do
    local moment, from = p.expires, p.state
    p.state = from == BLOCK and NORMAL or below(config, from)
    p.since = moment
    p.expires = p.state == NORMAL and 0 or moment + config.duration[p.state]
    p.violations = floor_of(config, p.state)
    p.violations_since = moment
    if from == BLOCK then
      p.temp_blocks, p.temp_blocks_since = 0, LONG_AGO
    end
  end
  return rebased
end

-- The moment at which the state next changes by itself, nil if it does not.
function penalty.boundary(p)
  if p.state == NORMAL or p.expires == FOREVER then
    return nil
  end
  return p.expires
end

-- The next state up that the policy has, nil if there is none.
local function above(config, state)
  for candidate = state + 1, TEMP_BLOCK do
    if config.duration[candidate] then
      return candidate
    end
  end
  return nil
end

local function enter(p, config, state, now)
  if state == TEMP_BLOCK then
    if now - p.temp_blocks_since > config.block_within then
      p.temp_blocks, p.temp_blocks_since = 0, now
    end
    p.temp_blocks = p.temp_blocks + 1
    if config.block_after > 0 and p.temp_blocks >= config.block_after then
      state = BLOCK
    end
  end
  p.state, p.since, p.last_step = state, now, now
  p.expires = config.duration[state] == FOREVER and FOREVER or now + config.duration[state]
end

-- Counts one violation of a machine that was advanced to now. Not called while it blocks.
function penalty.violate(p, config, now)
  if now - p.last_violation < 1000000 then
    return false
  end
  p.last_violation = now
  if now - p.violations_since > config.window then
    p.violations, p.violations_since = floor_of(config, p.state), now
  end
  p.violations = math.min(p.violations + 1, MOST_VIOLATIONS)
  local next_state = above(config, p.state)
  if next_state and p.violations >= config.violations[next_state] and now - p.last_step >= config.min_step then
    enter(p, config, next_state, now)
  elseif config.duration[p.state] then
    -- Not NORMAL, nor a state that the policy had until it was edited: that one ends when it was to.
    p.expires = now + config.duration[p.state]
  end
  return true
end

-- The microseconds from now until the machine has stepped down to NORMAL by itself; nil = never.
function penalty.normal_in(p, config, now)
  if p.state == NORMAL then
    return 0
  end
  if p.expires == FOREVER then
    return nil
  end
  local falls, state = p.expires - now, p.state
  while state ~= NORMAL do
    state = state == BLOCK and NORMAL or below(config, state)
    falls = falls + (config.duration[state] or 0)
  end
  return falls
end

-- The microseconds from now for which the machine says anything; nil = for ever.
function penalty.matters_for(p, config, now)
  local falls = penalty.normal_in(p, config, now)
  if not falls then
    return nil
  end
  local longest = math.max(falls, p.violations_since + config.window - now)
  if p.temp_blocks > 0 then
    longest = math.max(longest, p.temp_blocks_since + config.block_within - now)
  end
  return longest
end
