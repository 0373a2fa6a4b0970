#!lua
-- list-pods.lua: the acknowledgements of all pods; forgets pods that have been silent for long.
--
-- KEYS[1]      acknowledgements of all pods
-- ARGV[1]      silence after which a pod is forgotten (microseconds)
-- Reply        {time of Redis (microseconds), pod, acknowledgement, pod, acknowledgement, ...}

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local stored = redis.call('HGETALL', KEYS[1])
local reply, forgotten = { string.format('%.0f', now) }, {}
for i = 1, #stored, 2 do
  local heartbeat = tonumber(string.match(stored[i + 1], '^%d+'))
  if heartbeat and now - heartbeat <= tonumber(ARGV[1]) then
    reply[#reply + 1] = stored[i]
    reply[#reply + 1] = stored[i + 1]
  else
    forgotten[#forgotten + 1] = stored[i]
  end
end
for _, pod in ipairs(forgotten) do
  redis.call('HDEL', KEYS[1], pod)
end
return reply
