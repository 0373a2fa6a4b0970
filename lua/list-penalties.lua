#!lua flags=no-writes
-- list-penalties.lua: the penalties of some subjects as they are now, for people.
--
-- KEYS[1..n]   hashes of penalties, in one slot
-- Reply        for each key state (0 NORMAL or nothing stored, 1 WARN, 2 THROTTLE, 3 TEMP_BLOCK, 4 BLOCK), end of that
--              state (microseconds since 1970, -1 = never by itself, 0 = NORMAL), text of the subject

--@include penalty-fields.lua
--@include penalty.lua

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local reply = {}
for i = 1, #KEYS do
  local stored = redis.pcall('HMGET', KEYS[i], PENALTY_FIELD, DURATIONS_FIELD, TEXT_FIELD)
  -- What is no hash is no penalty.
  if stored.err then
    stored = {}
  end
  local machine = penalty.read(stored[1])
  penalty.advance(machine, penalty.read_durations(stored[2]), now)
  local boundary = penalty.boundary(machine) or machine.state == NORMAL and 0 or -1
  reply[#reply + 1] = machine.state
  reply[#reply + 1] = string.format('%.0f', boundary)
  reply[#reply + 1] = stored[3] or ''
end
return reply
