-- sliding-window-log.lua: the exact log. A fragment: included by the scripts that decide.
--
-- Every admission is kept with its time for one window: at now, exactly those later than now - window count. So never
-- more than capacity in any trailing window, and capacity returns to the microsecond. The price is memory: 9 bytes
-- for each admission, which is why the capacity is at most 1000.
--
-- When the clock steps back behind the newest admission, all of them are moved with it, so that the newest is as old
-- as zero: their distances stay, and none leaves before its window has passed.
--
-- State: tag 'l', window in seconds (I3), then for each admission, oldest first, time (i7, microseconds), cost (I2).

local LOG_TAG = 108
local LOG_HEADER = 4
local LOG_ENTRY = 9

-- The moment at which the state says nothing any more.
local function log_ends(state, limit)
  local newest = state.times[#state.times]
  return newest and newest + limit.window or 0
end

-- The state that is stored, and the moment at which it says nothing any more; nothing stored: an empty one, nil.
local function log_read(packed, _, limit)
  local state = { times = {}, costs = {} }
  if not packed or string.byte(packed) ~= LOG_TAG or (#packed - LOG_HEADER) % LOG_ENTRY ~= 0 then
    return state
  end
  local _, seconds = struct.unpack('>BI3', packed)
  if seconds * 1000000 ~= limit.window then
    return state
  end
  for at = LOG_HEADER + 1, #packed, LOG_ENTRY do
    local time, cost = struct.unpack('>i7I2', packed, at)
    state.times[#state.times + 1] = time
    state.costs[#state.costs + 1] = cost
  end
  return state, log_ends(state, limit)
end

local function log_write(state, limit)
  local parts = { struct.pack('>BI3', LOG_TAG, limit.window / 1000000) }
  for i = 1, #state.times do
    parts[i + 1] = struct.pack('>i7I2', state.times[i], state.costs[i])
  end
  return table.concat(parts)
end

-- The microseconds from `now` after which the packed state says nothing any more.
local function log_recovers_in(packed, now)
  local _, seconds = struct.unpack('>BI3', packed)
  if #packed == LOG_HEADER then
    return 0
  end
  return struct.unpack('>i7', packed, #packed - LOG_ENTRY + 1) + seconds * 1000000 - now
end

-- Brings the state to `now`, in place. Returns whether that has to be stored even if the request is denied.
local function log_advance(state, limit, now)
  local newest = state.times[#state.times]
  local ahead = newest and newest > now and newest - now or 0
  local times, costs = {}, {}
  for i = 1, #state.times do
    local time = state.times[i] - ahead
    if time > now - limit.window then
      times[#times + 1] = time
      costs[#costs + 1] = state.costs[i]
    end
  end
  state.times, state.costs = times, costs
  return ahead > 0
end

local function log_used(state)
  local used = 0
  for i = 1, #state.costs do
    used = used + state.costs[i]
  end
  return used
end

-- Whether the limit admits its cost in a state that was advanced to now, and else after how many microseconds it
-- will (-1: never at these limits, because the cost is above its capacity).
local function log_evaluate(state, limit, now)
  local excess = log_used(state) + limit.cost - limit.capacity
  if excess <= 0 then
    return true, 0
  end
  if not (limit.cost <= limit.capacity) then
    return false, -1
  end
  for i = 1, #state.times do
    excess = excess - state.costs[i]
    if excess <= 0 then
      return false, state.times[i] + limit.window - now
    end
  end
  return false, -1
end

local function log_charge(state, limit, now)
  local last = #state.times
  if state.times[last] == now then
    state.costs[last] = state.costs[last] + limit.cost
    return
  end
  state.times[last + 1] = now
  state.costs[last + 1] = limit.cost
end

-- Takes back a charge from the entry of its time, if that is still there; without the time of the charge from the oldest
-- entries, which would have left first. Never more than they count.
local function log_refund(state, limit, charged_at)
  local times, costs = {}, {}
  local left = limit.cost
  for i = 1, #state.times do
    local cost = state.costs[i]
    if not charged_at or state.times[i] == charged_at then
      local taken = math.min(left, cost)
      cost, left = cost - taken, left - taken
    end
    if cost > 0 then
      times[#times + 1] = state.times[i]
      costs[#costs + 1] = cost
    end
  end
  state.times, state.costs = times, costs
end

-- What could be admitted now (requests), and the microseconds until the window is empty again.
local function log_report(state, limit, now)
  local newest = state.times[#state.times]
  return math.max(0, limit.capacity - log_used(state)), newest and newest + limit.window - now or 0
end

local log = {
  read = log_read,
  write = log_write,
  ends = log_ends,
  recovers_in = log_recovers_in,
  advance = log_advance,
  evaluate = log_evaluate,
  charge = log_charge,
  refund = log_refund,
  report = log_report,
}
