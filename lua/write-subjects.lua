-- write-subjects.lua: stores what a batch changed. A fragment: included by decide.lua last. Until here nothing was written,
-- and what is written here cannot fail on the type of a key: every hash was read before.

-- The first bytes of what the algorithms store; a ring has others.
local TAG_OF_BUCKET, TAG_OF_LOG = 98, 108

-- Whether a field that no request used says nothing any more.
local function is_recovered(field, packed)
  if field == PENALTY_FIELD or field == TEXT_FIELD or field == DURATIONS_FIELD then
    return false
  end
  if #packed < 13 then
    return true
  end
  local tag = string.byte(packed)
  local algorithm = algorithm_of(tag == TAG_OF_BUCKET and BUCKET or tag == TAG_OF_LOG and LOG or RING)
  return algorithm.recovers_in(packed, now) <= 0
end

-- The end of what a counter says, in steps of an eighth of its window: so that not every request moves the expiry.
local function rounded(ends, limit)
  local step = limit.window / 8
  if step < 1000000 then
    step = 1000000
  end
  local past = ends % step
  return past > 0 and ends - past + step or ends
end

-- What to store of one hash, and for how long it matters: microseconds, nil = for ever, 0 = its expiry is late enough.
-- Whoever wrote a counter before made the hash last until the end of what it said then.
local function changes_of(subject)
  local changed, longest, is_forever, is_longer = {}, 0, false, false
  for field, entry in pairs(subject.states) do
    if entry.config then
      local matters = the_whole().add_machine(changed, entry)
      is_forever = is_forever or not matters
      if entry.changed then
        is_longer, longest = true, math.max(longest, matters or 0)
      end
    elseif entry.changed then
      local limit, state = entry.limit, entry.state
      changed[#changed + 1] = field
      changed[#changed + 1] = limit.algorithm.write(state, limit)
      local ends, stored_until = rounded(limit.algorithm.ends(state, limit), limit), entry.stored_until
      is_longer = is_longer or not stored_until or rounded(stored_until, limit) < ends
      if ends - now > longest then
        longest = ends - now
      end
    end
  end
  return changed, not is_forever and (is_longer and longest or 0) or nil
end

-- Drops fields that have recovered and were not used.
local function drop_recovered(subject)
  local recovered, stored, states = nil, subject.stored, subject.states
  for i = 1, #stored, 2 do
    if not states[stored[i]] and is_recovered(stored[i], stored[i + 1]) then
      recovered = recovered or {}
      recovered[#recovered + 1] = stored[i]
    end
  end
  -- In parts: Lua cannot unpack more than some thousands of values.
  for first = 1, recovered and #recovered or 0, 1000 do
    redis.call('HDEL', subject.key, unpack(recovered, first, math.min(first + 999, #recovered)))
  end
end

-- A time to live is never shortened: other fields of the hash may need it.
local function extend(subject, longest)
  local key = subject.key
  if not longest then
    redis.call('PERSIST', key)
  elseif longest > 0 then
    local ttl = math.ceil(longest / 1000) + 1000
    if #subject.stored == 0 or ttl > redis.call('PTTL', key) then
      redis.call('PEXPIRE', key, string.format('%.0f', ttl))
    end
  end
end

-- Writes what changed of one hash, drops what has recovered, and extends the time to live to the last recovery.
local function store(subject)
  local changed, longest = changes_of(subject)
  redis.call('HSET', subject.key, unpack(changed))
  drop_recovered(subject)
  extend(subject, longest)
  local machine = subject.states[PENALTY_FIELD]
  if machine and machine.changed and machine.state.state > 0 then
    the_whole().index(machine)
  end
end
