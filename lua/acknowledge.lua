#!lua
-- acknowledge.lua: a pod's heartbeat. Records what the pod enforces and returns the head, so that one round trip
-- both acknowledges and notices a change whose announcement was lost.
--
-- KEYS[1]      head
-- KEYS[2]      acknowledgements of all pods
-- ARGV[1]      owner whose configuration the pod follows
-- ARGV[2]      pod
-- ARGV[3]      acknowledgement, JSON
-- ARGV[4]      "1" if the acknowledgement differs from the pod's last one: it is then announced
-- ARGV[5]      channel to announce it on
-- Reply        {time of Redis (microseconds), number of pods, owner, incarnation, epoch, revision, manifest}; the last
--              five empty strings if there is no head
-- An acknowledgement is stored as "<time of Redis (microseconds)> <JSON>", and not at all on another owner's Redis.

local clock = redis.call('TIME')
local now = string.format('%.0f', tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
local head = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'epoch', 'revision', 'manifest')
if not head[1] or head[1] == ARGV[1] then
  redis.call('HSET', KEYS[2], ARGV[2], now .. ' ' .. ARGV[3])
  if ARGV[4] == '1' then
    redis.call('PUBLISH', ARGV[5], 'ack ' .. ARGV[2])
  end
end
return { now, redis.call('HLEN', KEYS[2]), head[1] or '', head[2] or '', head[3] or '', head[4] or '', head[5] or '' }
