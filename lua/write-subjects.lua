-- write-subjects.lua: stores what a batch changed. A fragment: included by decide.lua last. Until here nothing was written,
-- and what is written here cannot fail on the type of a key: every hash was read before.

-- The microseconds for which a changed entry says anything, nil = for ever.
local function matters_for(entry, packed)
  if entry.penalty then
    return penalty.matters_for(entry.state, entry.penalty.config, now)
  end
  return entry.limit.algorithm.recovers_in(packed, now)
end

local function is_recovered(field, packed)
  if field == PENALTY_FIELD or field == TEXT_FIELD or field == DURATIONS_FIELD then
    return false
  end
  local algorithm = ALGORITHM_OF_TAG[string.byte(packed)] or ring
  return #packed < 13 or algorithm.recovers_in(packed, now) <= 0
end

-- What to store of one hash, and for how long it matters (microseconds, nil = for ever).
local function changes_of(subject)
  local changed, longest, is_forever = {}, 0, false
  local function set(field, value)
    changed[#changed + 1] = field
    changed[#changed + 1] = value
  end
  for field, entry in pairs(subject.states) do
    if entry.changed then
      local packed = entry.penalty and penalty.write(entry.state) or entry.limit.algorithm.write(entry.state, entry.limit)
      set(field, packed)
      if entry.penalty then
        set(TEXT_FIELD, entry.penalty.text)
        set(DURATIONS_FIELD, penalty.write_durations(entry.penalty.config))
      end
      local matters = matters_for(entry, packed)
      is_forever = is_forever or not matters
      longest = math.max(longest, matters or 0)
    end
  end
  return changed, not is_forever and longest or nil
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
  local ttl = longest and math.ceil(longest / 1000) + 1000
  if not ttl then
    redis.call('PERSIST', key)
  elseif ttl > redis.call('PTTL', key) then
    redis.call('PEXPIRE', key, string.format('%.0f', ttl))
  end
  local machine = subject.states[PENALTY_FIELD]
  if machine and machine.changed and machine.state.state ~= NORMAL then
    index_penalty(machine)
  end
end
