#!lua
-- decide.lua: atomic decisions over every limit of each request of a batch, in order.
--
-- A request is admitted if and only if all of its limits admit it; then all are charged, otherwise none. Nothing is
-- written before everything is read and computed, and a denied request writes nothing (but see `rebased`: after the
-- clock of Redis stepped back, the state is moved to the new time).
--
-- KEYS[1..n]   counter hashes of subjects; a hash holds one field per limit
-- ARGV[1]      number of requests
-- then for each request
--   cost       what it takes from each of its limits (requests, 1..2^53-1)
--   limits     number of its limits (1..16), and for each of them
--     key        index into KEYS
--     field      the field of the limit in that hash
--     algorithm  1 = token bucket, 2 = sliding window
--     capacity   requests: the depth of the bucket, or the most in any trailing window
--     refill     requests per window (token bucket; otherwise not used)
--     window     seconds
-- Reply        the time of Redis (microseconds), then for each request one string
--   "2"                                                        a key of it holds no counters (WRONGTYPE)
--   "<1 admitted|0 denied> <limit> <limit> ..."                 with for each limit three numbers:
--   "<remaining (requests)> <retry_after (us)> <reset_after (us)>"
--              retry_after 0 = this limit admits, -1 = it never will at these limits

--@include token-bucket.lua
--@include sliding-window.lua

local ALGORITHMS = { bucket, ring }

-- The time in a form that tests can replace as a whole: it is read here and nowhere else.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local argument = 1
local function next_number()
  argument = argument + 1
  return tonumber(ARGV[argument])
end

-- One subject's hash as read, and the states of it that were computed since. `false`: its key holds no hash.
local subjects = {}

local function subject_of(key_index)
  local subject = subjects[key_index]
  if subject == nil then
    local reply = redis.pcall('HGETALL', KEYS[key_index])
    if reply.err then
      subject = false
    else
      subject = { stored = {}, states = {}, dirty = false }
      for i = 1, #reply, 2 do
        subject.stored[reply[i]] = reply[i + 1]
      end
    end
    subjects[key_index] = subject
  end
  return subject
end

local function read_limit(cost)
  local key_index = next_number()
  argument = argument + 1
  local field = ARGV[argument]
  return {
    subject = subject_of(key_index),
    field = field,
    algorithm = ALGORITHMS[next_number()],
    capacity = next_number(),
    refill = next_number(),
    window = next_number() * 1000000,
    cost = cost,
  }
end

local function state_of(limit)
  local entry = limit.subject.states[limit.field]
  if not entry then
    local packed = limit.subject.stored[limit.field]
    entry = { state = limit.algorithm.read(packed, now, limit), limit = limit, changed = false }
    limit.subject.states[limit.field] = entry
  end
  if limit.algorithm.advance(entry.state, limit, now) then
    entry.changed, limit.subject.dirty = true, true
  end
  return entry
end

local function decide()
  local cost = next_number()
  local limits, readable = {}, true
  for i = 1, next_number() do
    limits[i] = read_limit(cost)
    readable = readable and limits[i].subject
  end
  if not readable then
    return '2'
  end
  local entries, retries, admitted = {}, {}, true
  for i, limit in ipairs(limits) do
    entries[i] = state_of(limit)
    local admits
    admits, retries[i] = limit.algorithm.evaluate(entries[i].state, limit, now)
    admitted = admitted and admits
  end
  local reply = { admitted and '1' or '0' }
  for i, limit in ipairs(limits) do
    if admitted then
      limit.algorithm.charge(entries[i].state, limit)
      entries[i].changed, limit.subject.dirty = true, true
    end
    local remaining, reset_after = limit.algorithm.report(entries[i].state, limit, now)
    reply[i + 1] = string.format('%.0f %.0f %.0f', remaining, retries[i], reset_after)
  end
  return table.concat(reply, ' ')
end

-- Writes what changed of one subject, drops what has recovered and was not used, and extends the time to live to the
-- last recovery. A time to live is never shortened: other fields of the hash may need it.
local function store(key, subject)
  local changed, recovered, longest = {}, {}, 0
  for field, entry in pairs(subject.states) do
    if entry.changed then
      local packed = entry.limit.algorithm.write(entry.state, entry.limit)
      changed[#changed + 1] = field
      changed[#changed + 1] = packed
      longest = math.max(longest, entry.limit.algorithm.recovers_in(packed, now))
    end
  end
  for field, packed in pairs(subject.stored) do
    if not subject.states[field] then
      local algorithm = string.byte(packed) == BUCKET_TAG and bucket or ring
      if #packed < 20 or algorithm.recovers_in(packed, now) <= 0 then
        recovered[#recovered + 1] = field
      end
    end
  end
  redis.call('HSET', key, unpack(changed))
  -- In parts: Lua cannot unpack more than some thousands of values.
  for first = 1, #recovered, 1000 do
    redis.call('HDEL', key, unpack(recovered, first, math.min(first + 999, #recovered)))
  end
  local ttl = math.ceil(longest / 1000) + 1000
  if ttl > redis.call('PTTL', key) then
    redis.call('PEXPIRE', key, string.format('%.0f', ttl))
  end
end

local replies = { string.format('%.0f', now) }
for i = 1, tonumber(ARGV[1]) do
  replies[i + 1] = decide()
end
for key_index, subject in pairs(subjects) do
  if subject and subject.dirty then
    store(KEYS[key_index], subject)
  end
end
return replies
