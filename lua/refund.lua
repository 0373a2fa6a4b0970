#!lua
-- refund.lua: gives back what limits were charged, never above full.
--
-- A limit of which nothing is stored is full already. No hash is created and no time to live is touched. Everything is
-- read before anything is written. Whether a refund may happen, and that it happens once, is the caller's care.
--
-- KEYS[1..n]   hashes of counters, in one slot
-- ARGV[1]      time of Redis at the charge (microseconds); -1 = not known, windows then give back what leaves first
-- then for each limit
--   key        index into KEYS
--   field      the field of the limit in that hash
--   algorithm  1 = token bucket, 2 = sliding window, 3 = sliding window log
--   refill     requests per window at the charge (token bucket; otherwise not used)
--   window     seconds
--   cost       what was charged (requests, >= 1)
-- Reply        {code, detail}
--   0 given back; detail = number of limits of which anything is stored
--   1 a key holds something else, nothing was given back; detail = its position in KEYS

--@include token-bucket.lua
--@include sliding-window.lua
--@include sliding-window-log.lua

local ALGORITHMS = { bucket, ring, log }
local ARGUMENTS_OF_LIMIT = 6

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local charged_at = tonumber(ARGV[1])
if charged_at < 0 then
  charged_at = nil
end

local refunded = 0
-- By key and field: one limit may have been charged twice.
local entries = {}
for at = 2, #ARGV, ARGUMENTS_OF_LIMIT do
  local key, field = tonumber(ARGV[at]), ARGV[at + 1]
  local algorithm = ALGORITHMS[tonumber(ARGV[at + 2])]
  local limit = {
    refill = tonumber(ARGV[at + 3]),
    window = tonumber(ARGV[at + 4]) * 1000000,
    cost = tonumber(ARGV[at + 5]),
  }
  local name = key .. ' ' .. field
  local entry = entries[name]
  if not entry then
    local packed = redis.pcall('HGET', KEYS[key], field)
    if type(packed) == 'table' then
      return { 1, key }
    end
    if packed then
      entry = { key = key, field = field, algorithm = algorithm, limit = limit }
      entry.state = algorithm.read(packed, now, limit)
      -- A refill of 0 leaves the unit of a bucket's debt as it is.
      algorithm.advance(entry.state, { refill = 0, window = limit.window }, now)
      entries[name] = entry
    end
  end
  if entry then
    algorithm.refund(entry.state, limit, charged_at)
    refunded = refunded + 1
  end
end
for _, entry in pairs(entries) do
  redis.call('HSET', KEYS[entry.key], entry.field, entry.algorithm.write(entry.state, entry.limit))
end
return { 0, refunded }
