#!lua
-- count-invalid-key.lua: counts one request with an invalid API key, and blocks those who send too many.
--
-- KEYS[1]      hash of one client in one domain
-- ARGV[1]      so many requests lead to the block
-- ARGV[2]      seconds within which they count, from the first
-- ARGV[3]      seconds that the block lasts; nothing extends it
-- ARGV[4]      1 = count it; 0 = only say whether this client is blocked, and write nothing
-- Reply        {blocked_for, is_new}
--   blocked_for  microseconds for which this client is blocked; 0 = it is not
--   is_new       1 if this request led to the block (and is not itself denied by it)

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local most, within, duration = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000, tonumber(ARGV[3]) * 1000000

local stored = redis.call('HMGET', KEYS[1], 'count', 'since', 'until')
local count, since, ends = tonumber(stored[1] or 0), tonumber(stored[2] or 0), tonumber(stored[3] or 0)
-- After the clock stepped back a block would last until the old time returns.
if ends > now and ends - now <= duration then
  return { string.format('%.0f', ends - now), 0 }
end
if ARGV[4] == '0' then
  return { '0', 0 }
end
if now - since >= within or since > now then
  count, since = 0, now
end
count = count + 1
local is_new = count >= most
local lasts = is_new and duration or within - (now - since)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'count', string.format('%.0f', is_new and 0 or count),
  'since', string.format('%.0f', since), 'until', string.format('%.0f', is_new and now + duration or 0))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lasts / 1000) + 1000))
return { '0', is_new and 1 or 0 }
