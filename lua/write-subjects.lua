-- write-subjects.lua: stores what a batch changed. A fragment: included by decide.lua last. Until here nothing was written,
-- and what is written here cannot fail on the type of a key: every hash was read before.

-- Whose state it is; nil for what is none.
local function algorithm_of(packed)
  return #packed >= 13 and (ALGORITHM_OF_TAG[string.byte(packed)] or ring) or nil
end

local function is_recovered(field, packed)
  if field == PENALTY_FIELD or field == TEXT_FIELD or field == DURATIONS_FIELD then
    return false
  end
  local algorithm = algorithm_of(packed)
  return not algorithm or algorithm.recovers_in(packed, now) <= 0
end

-- The end of what a counter says, in steps of an eighth of its window: so that not every request moves the expiry.
local function end_of(limit, packed)
  local step = math.max(1000000, limit.window / 8)
  return math.ceil((now + limit.algorithm.recovers_in(packed, now)) / step) * step
end

-- What to store of one hash, and for how long it matters: microseconds, nil = for ever, 0 = its expiry is late enough.
-- Whoever wrote a counter before made the hash last until the end of what it said then.
local function changes_of(subject)
  local changed, longest, is_forever, is_longer = {}, 0, false, false
  local function set(field, value)
    changed[#changed + 1] = field
    changed[#changed + 1] = value
  end
  for field, entry in pairs(subject.states) do
    if entry.config then
      local matters = penalty.matters_for(entry.state, entry.config, now)
      -- Also of a machine that did not change: its meters must not give it an end.
      is_forever = is_forever or not matters
      if entry.changed then
        set(field, penalty.write(entry.state))
        set(TEXT_FIELD, entry.text)
        set(DURATIONS_FIELD, penalty.write_durations(entry.config))
        is_longer, longest = true, math.max(longest, matters or 0)
      end
    elseif entry.changed then
      local limit, before = entry.limit, subject.stored[field]
      local packed = limit.algorithm.write(entry.state, limit)
      set(field, packed)
      local ends = end_of(limit, packed)
      is_longer = is_longer or not before or algorithm_of(before) ~= limit.algorithm or end_of(limit, before) < ends
      longest = math.max(longest, ends - now)
    end
  end
  return changed, not is_forever and (is_longer and longest or 0) or nil
end

-- Fields that have recovered and were not used.
local function recovered_of(subject)
  local recovered = {}
  for field, packed in pairs(subject.stored) do
    if not subject.states[field] and is_recovered(field, packed) then
      recovered[#recovered + 1] = field
    end
  end
  return recovered
end

-- Writes what changed of one hash, drops what has recovered, and extends the time to live to the last recovery. A time
-- to live is never shortened: other fields of the hash may need it.
local function store(key, subject)
  local changed, longest = changes_of(subject)
  local recovered = recovered_of(subject)
  redis.call('HSET', key, unpack(changed))
  -- In parts: Lua cannot unpack more than some thousands of values.
  for first = 1, #recovered, 1000 do
    redis.call('HDEL', key, unpack(recovered, first, math.min(first + 999, #recovered)))
  end
  if not longest then
    redis.call('PERSIST', key)
  elseif longest > 0 then
    local ttl = math.ceil(longest / 1000) + 1000
    if ttl > redis.call('PTTL', key) then
      redis.call('PEXPIRE', key, string.format('%.0f', ttl))
    end
  end
  local machine = subject.states[PENALTY_FIELD]
  if machine and machine.changed and machine.state.state ~= NORMAL then
    index_penalty(machine)
  end
end
