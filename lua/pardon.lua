#!lua
-- pardon.lua: lifts the penalty of one subject: its state, its history and its excess meters are gone, and everyone who
-- remembers it is told.
--
-- KEYS[1]      hash of the penalty
-- KEYS[2]      index of those above NORMAL
-- ARGV[1]      subject, as it is in the index
-- ARGV[2]      channel to announce the pardon on
-- ARGV[3]      announcement
-- Reply        {code, detail}
--   0 pardoned; detail = the state before (0 NORMAL, 1 WARN, 2 THROTTLE, 3 TEMP_BLOCK, 4 BLOCK)
--   1 a key holds something else, nothing was changed; detail = its position in KEYS

--@include penalty-fields.lua
--@include penalty.lua

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local stored = redis.pcall('HMGET', KEYS[1], PENALTY_FIELD, DURATIONS_FIELD)
if stored.err then
  return { 1, 1 }
end
local indexed = redis.pcall('ZSCORE', KEYS[2], ARGV[1])
if type(indexed) == 'table' then
  return { 1, 2 }
end
local machine = penalty.read(stored[1])
penalty.advance(machine, penalty.read_durations(stored[2]), now)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 0, machine.state }
