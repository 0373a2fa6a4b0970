#!lua
-- token-bucket.lua: the script that the comparison server runs, one call per request: a token bucket as applications
-- commonly write it, in floating point, on one key. It reads Redis' clock, as ours does.
--
-- KEYS[1]      the bucket
-- ARGV[1]      capacity (requests)
-- ARGV[2]      refill (requests per second)
-- ARGV[3]      cost (requests)
-- Reply        {1 admitted | 0 denied, remaining (requests), retry after (ms)}

local capacity, refill, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'updated')
local tokens = tonumber(bucket[1]) or capacity
local updated = tonumber(bucket[2]) or now

tokens = math.min(capacity, tokens + math.max(0, now - updated) * refill)
if tokens < cost then
  return { 0, math.floor(tokens), math.ceil((cost - tokens) / refill * 1000) }
end
tokens = tokens - cost
redis.call('HSET', KEYS[1], 'tokens', tokens, 'updated', now)
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / refill * 1000) + 1000)
return { 1, math.floor(tokens), 0 }
