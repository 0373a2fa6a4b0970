-- write-subjects.lua: stores what a batch changed. A fragment: included by decide.lua last. Until here nothing was written,
-- and what is written here cannot fail on the type of a key: every hash was read before.

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
  local changed, longest, is_longer, known, entry = {}, 0, false, 0, subject.first
  while entry do
    local stored_until = entry.stored_until
    known = stored_until and known + 2 or known
    if entry.changed then
      local limit, state = entry.limit, entry.state
      local count, algorithm = #changed, limit.algorithm
      changed[count + 1], changed[count + 2] = entry.field, algorithm.write(state, limit)
      local ends = rounded(algorithm.ends(state, limit), limit)
      is_longer = is_longer or not stored_until or rounded(stored_until, limit) < ends
      if ends - now > longest then
        longest = ends - now
      end
    end
    entry = entry.next
  end
  return changed, is_longer and longest or 0, known
end

-- Whether a field that no request used says nothing any more.
local function is_recovered(subject, field, packed)
  if found_in(subject, field) or field == 's' or field == 't' or field == 'd' then
    return false
  end
  if #packed < 13 then
    return true
  end
  -- The first bytes of what a bucket and a log store; a ring has others.
  local tag = string.byte(packed)
  return algorithm_of(tag == 98 and '1' or tag == 108 and '3' or '2').recovers_in(packed, now) <= 0
end

-- Drops fields that have recovered and were not used.
local function drop_recovered(subject)
  local recovered, stored = {}, subject.stored
  for i = 1, #stored, 2 do
    if is_recovered(subject, stored[i], stored[i + 1]) then
      recovered[#recovered + 1] = stored[i]
    end
  end
  -- In parts: Lua cannot unpack more than some thousands of values.
  for first = 1, #recovered, 1000 do
    redis.call('HDEL', subject.key, unpack(recovered, first, math.min(first + 999, #recovered)))
  end
end

-- A time to live is never shortened: other fields of the hash may need it.
local function extend(subject, longest)
  local key = subject.key
  if not longest then
    redis.call('PERSIST', key)
  else
    local ttl = math.ceil(longest / 1000) + 1000
    if #subject.stored == 0 or ttl > redis.call('PTTL', key) then
      redis.call('PEXPIRE', key, string.format('%.0f', ttl))
    end
  end
end

-- Writes what changed of one hash, drops what has recovered, and extends the time to live to the last recovery.
local function store(subject)
  local changed, longest, known = changes_of(subject)
  local machine = subject.machine
  if machine then
    longest = whole.add_machine(machine, changed, longest)
  end
  redis.call('HSET', subject.key, unpack(changed))
  if #subject.stored > known then
    drop_recovered(subject)
  end
  if longest ~= 0 then
    extend(subject, longest)
  end
  if machine and machine.changed and machine.state.state > 0 then
    whole.index(machine)
  end
end
