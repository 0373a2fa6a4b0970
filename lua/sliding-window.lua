-- sliding-window.lua: the conservative ring. A fragment: included by the scripts that decide.
--
-- A window is cut into 10 slots; a limit keeps one count for the current slot and each of the 10 before it. Any
-- interval as long as the window touches only these 11 slots, and their sum, the oldest counted in full, is held
-- <= capacity at each admission: never more than capacity in any trailing window. The price is that capacity returns
-- up to one slot (a tenth of the window) late.
--
-- A slot number is floor(clock / slot width); the width is whole, as windows are whole seconds. When the clock steps
-- back, the stored slots are moved to end one slot ahead of the clock: moved any further, counts would leave before
-- their window has passed; left where they are, they would stay until the old time returns. One slot ahead is also
-- what an unmoved ring may be, so a ring that far ahead stays where it is.
--
-- State: tag = bytes per count (1..5), newest slot (i5), window in seconds (I3), 11 counts, oldest first. At most 64
-- bytes, so that Redis keeps the hash as a listpack.

local SLOTS = 10
local RING_FORMATS = {
  '>Bi5I3I1I1I1I1I1I1I1I1I1I1I1',
  '>Bi5I3I2I2I2I2I2I2I2I2I2I2I2',
  '>Bi5I3I3I3I3I3I3I3I3I3I3I3I3',
  '>Bi5I3I4I4I4I4I4I4I4I4I4I4I4',
  '>Bi5I3I5I5I5I5I5I5I5I5I5I5I5',
}
-- The first count that needs more bytes than so many.
local RING_CAPACITY = { 256, 65536, 16777216, 4294967296 }

-- Exact: times are far below 2^53, see token-bucket.lua.
local function slot_of(now, width)
  return (now - now % width) / width
end

local function empty_ring(newest)
  return { newest = newest, used = 0, counts = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 } }
end

-- The state that is stored, and the moment at which it says nothing any more; nothing stored: an empty one, nil.
local function ring_read(packed, now, limit)
  local window = limit.window
  local width = window / SLOTS
  local bytes = packed and string.byte(packed)
  if not bytes or not RING_FORMATS[bytes] or #packed ~= 9 + bytes * (SLOTS + 1) then
    return empty_ring(slot_of(now, width))
  end
  local _, newest, seconds, a, b, c, d, e, f, g, h, i, j, k = struct.unpack(RING_FORMATS[bytes], packed)
  if seconds * 1000000 ~= window then
    return empty_ring(slot_of(now, width))
  end
  local used = a + b + c + d + e + f + g + h + i + j + k
  return { newest = newest, used = used, counts = { a, b, c, d, e, f, g, h, i, j, k } }, (newest + SLOTS + 1) * width
end

local function ring_write(state, limit)
  local bytes = 1
  -- No count is above their sum.
  for i = 1, state.used < 256 and 0 or SLOTS + 1 do
    while bytes < 5 and state.counts[i] >= RING_CAPACITY[bytes] do
      bytes = bytes + 1
    end
  end
  return struct.pack(RING_FORMATS[bytes], bytes, state.newest, limit.window / 1000000, unpack(state.counts))
end

-- The moment at which the state says nothing any more.
local function ring_ends(state, limit)
  return (state.newest + SLOTS + 1) * limit.window / SLOTS
end

-- The microseconds from `now` after which the packed state says nothing any more.
local function ring_recovers_in(packed, now)
  local _, newest, seconds = struct.unpack('>Bi5I3', packed)
  return (newest + SLOTS + 1) * seconds * 1000000 / SLOTS - now
end

-- Brings the state to `now`, in place. Returns whether that has to be stored even if the request is denied.
local function ring_advance(state, limit, now)
  local current = slot_of(now, limit.window / SLOTS)
  if state.newest > current + 1 then
    state.newest = current + 1
    return true
  end
  local passed = current - state.newest
  if passed > 0 then
    local counts, used = {}, 0
    for i = 1, SLOTS + 1 do
      local count = state.counts[i + passed] or 0
      counts[i] = count
      used = used + count
    end
    state.counts, state.used, state.newest = counts, used, current
  end
  return false
end

-- The microseconds from `now` until the slot at `index` (1 = oldest) has left the window.
local function leaves_in(state, index, width, now)
  return (state.newest + index) * width - now
end

local function retry_after(state, excess, width, now)
  for index = 1, SLOTS + 1 do
    excess = excess - state.counts[index]
    if excess <= 0 then
      return leaves_in(state, index, width, now)
    end
  end
  return -1
end

local function reset_after(state, width, now)
  for index = SLOTS + 1, 1, -1 do
    if state.counts[index] > 0 then
      return leaves_in(state, index, width, now)
    end
  end
  return 0
end

-- Whether the limit admits its cost in a state that was advanced to now, and else after how many microseconds it
-- will (-1: never at these limits, because the cost is above its capacity).
local function ring_evaluate(state, limit, now)
  local used = state.used
  if used + limit.cost <= limit.capacity then
    return true, 0
  end
  if not (limit.cost <= limit.capacity) then
    return false, -1
  end
  return false, retry_after(state, used + limit.cost - limit.capacity, limit.window / SLOTS, now)
end

local function ring_charge(state, limit)
  local counts, cost = state.counts, limit.cost
  counts[SLOTS + 1] = counts[SLOTS + 1] + cost
  state.used = state.used + cost
end

-- Takes back a charge from the slot in which it was counted, if that is still there; without the time of the charge
-- from the oldest slots, which would have left first. Never more than they count.
local function ring_refund(state, limit, charged_at)
  local first, last = 1, SLOTS + 1
  if charged_at then
    local index = slot_of(charged_at, limit.window / SLOTS) - state.newest + SLOTS + 1
    first, last = math.max(index, 1), math.min(index, SLOTS + 1)
  end
  local left = limit.cost
  for index = first, last do
    local taken = math.min(left, state.counts[index])
    state.counts[index] = state.counts[index] - taken
    left = left - taken
  end
  state.used = state.used - (limit.cost - left)
end

-- What could be admitted now (requests), and the microseconds until the window is empty again.
local function ring_report(state, limit, now)
  local remaining = limit.capacity - state.used
  return remaining > 0 and remaining or 0, reset_after(state, limit.window / SLOTS, now)
end

local ring = {
  read = ring_read,
  write = ring_write,
  ends = ring_ends,
  recovers_in = ring_recovers_in,
  advance = ring_advance,
  evaluate = ring_evaluate,
  charge = ring_charge,
  refund = ring_refund,
  report = ring_report,
}
