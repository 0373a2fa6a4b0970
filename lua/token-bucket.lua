-- token-bucket.lua: GCRA in exact integers. A fragment: included by the scripts that decide.
--
-- A bucket is kept as debt: the time, in microseconds, until it is full again. Serving one request adds
-- windowMicros / refill microseconds of debt, which is rarely whole, so debt is the pair
--
--     whole + fraction / refill        (0 <= fraction < refill, both integers)
--
-- and every sum below is exact. Debt is repaid one microsecond per microsecond whatever the limit is now: changing a
-- limit never forgives debt. capacity * windowMicros <= 9,007,199,254 * 10^6 < 2^53, which the compiler guarantees,
-- keeps each product in the range in which a double is an exact integer. Sums of two such numbers are avoided:
-- differences are compared instead.
--
-- Invariant: after every admission debt <= capacity * windowMicros / refill. Hence in any interval T the admitted cost
-- is at most capacity + refill * T / windowMicros, and a request is denied only if the exact bucket would deny it.
-- When a limit's refill changes, a fraction is rounded up to one microsecond, once per change.
--
-- State: 25 bytes, tag 'b', last (i7, microseconds), whole (I7), fraction (I5), refill (I5). Anything else, or a debt
-- that no limit can bring about (above 9,007,199,254 s), is no state of a bucket and counts as none: nobody is locked out by a broken value.

-- The state that is stored, and the moment at which it says nothing any more; nothing stored: an empty one, nil.
local function bucket_read(packed, now)
  if packed and #packed == 25 and string.byte(packed) == 98 then
    local _, last, whole, fraction, refill = struct.unpack('>Bi7I7I5I5', packed)
    if whole <= 9007199254000000 and fraction < refill then
      return { last = last, whole = whole, fraction = fraction, refill = refill }, last + whole + 1
    end
  end
  return { last = now, whole = 0, fraction = 0, refill = 0 }
end

local function bucket_write(state)
  return struct.pack('>Bi7I7I5I5', 98, state.last, state.whole, state.fraction, state.refill)
end

-- The moment at which the state says nothing any more.
local function bucket_ends(state)
  return state.last + state.whole + 1
end

-- The microseconds from `now` after which the packed state says nothing any more.
local function bucket_recovers_in(packed, now)
  local state = bucket_read(packed, now)
  return state.refill == 0 and 0 or state.whole + 1 - (now - state.last)
end

-- Below 2^53 a % b is exact for whole numbers, though it rounds a / b: were that rounded up to a whole n > a / b, then
-- n * b - a <= a / 2^53 < 1, and there is no whole number between. Only meters, which hold up to ten limits, get above.
local function remainder_of(product, divisor)
  return product < 9007199254740992 and product % divisor or math.fmod(product, divisor)
end

-- Brings the state to `now`, in place. Returns whether that has to be stored even if the request is denied: after
-- the clock stepped back, debt counts from the new time on, or nobody would be served until the old time returns.
-- A refill of 0 (the limit is shed) repays nothing differently: debt is time.
local function bucket_advance(state, limit, now)
  if limit.refill > 0 and state.refill ~= limit.refill then
    if state.fraction > 0 then
      state.whole, state.fraction = state.whole + 1, 0
    end
    state.refill = limit.refill
  end
  local elapsed = now - state.last
  state.last = now
  if elapsed < 0 then
    return true
  end
  local whole = state.whole - elapsed
  if whole < 0 then
    whole, state.fraction = 0, 0
  end
  state.whole = whole
  return false
end

-- Whether the limit admits its cost in a state that was advanced to now, and else after how many microseconds it
-- will (-1: never at these limits, because it is shed or the cost is above its capacity).
local function bucket_evaluate(state, limit)
  if not (limit.refill > 0 and limit.cost <= limit.capacity) then
    return false, -1
  end
  local refill, room = limit.refill, (limit.capacity - limit.cost) * limit.window
  local room_fraction = remainder_of(room, refill)
  local room_whole = (room - room_fraction) / refill
  local excess = state.whole - room_whole
  if excess < 0 or (excess == 0 and state.fraction <= room_fraction) then
    return true, 0
  end
  return false, state.fraction > room_fraction and excess + 1 or excess
end

local function bucket_charge(state, limit)
  local refill, added = limit.refill, limit.cost * limit.window
  local added_fraction = remainder_of(added, refill)
  local fraction = state.fraction + added_fraction
  local whole = state.whole + (added - added_fraction) / refill
  if fraction >= refill then
    whole, fraction = whole + 1, fraction - refill
  end
  state.whole, state.fraction = whole, fraction
end

-- Takes back what a charge at limit.refill added, never below no debt: exactly while the refill is that of then, otherwise
-- in whole microseconds, rounded down. So what was charged less what was taken back keeps the bound.
local function bucket_refund(state, limit)
  if not (limit.refill > 0) then
    return
  end
  local charged = limit.cost * limit.window
  local fraction = remainder_of(charged, limit.refill)
  local whole = (charged - fraction) / limit.refill
  if state.refill ~= limit.refill then
    fraction = 0
  end
  state.whole, state.fraction = state.whole - whole, state.fraction - fraction
  if state.fraction < 0 then
    state.whole, state.fraction = state.whole - 1, state.fraction + state.refill
  end
  if state.whole < 0 then
    state.whole, state.fraction = 0, 0
  end
end

-- What could be admitted now (requests), and the microseconds until the bucket is full again.
local function bucket_report(state, limit)
  local remaining, refill, window, whole, fraction = 0, limit.refill, limit.window, state.whole, state.fraction
  if refill > 0 then
    local full = limit.capacity * window
    local full_fraction = remainder_of(full, refill)
    local units = ((full - full_fraction) / refill - whole) * refill + (full_fraction - fraction)
    if units > 0 then
      remaining = (units - remainder_of(units, window)) / window
    end
  end
  return remaining, fraction > 0 and whole + 1 or whole
end

local bucket = {
  read = bucket_read,
  write = bucket_write,
  ends = bucket_ends,
  recovers_in = bucket_recovers_in,
  advance = bucket_advance,
  evaluate = bucket_evaluate,
  charge = bucket_charge,
  refund = bucket_refund,
  report = bucket_report,
}
