#!lua
-- write-consumer-keys.lua: writes and removes records of API keys, fenced.
--
-- KEYS[1]      marker of the key set
-- KEYS[2]      index: the names of all records
-- KEYS[3..]    records
-- ARGV[1]      owner
-- ARGV[2]      incarnation of the configuration that the operator publishes
-- ARGV[3]      epoch of the operator
-- ARGV[4]      "complete": with this call the set is complete; "partial": more calls follow; "change": a change of a
--              complete set
-- ARGV[5]      channel to announce the change on
-- ARGV[6]      highest sequence number that anyone is known to have seen: after a loss of data the new ones are above it
-- then for each record its name (the keyed hash of the key), and the record as JSON or "" to remove it
-- Reply        {code, detail}
--   0 written; detail = the sequence number of the key set
--   1 another owner; detail = the owner
--   2 an operator of a higher epoch was here; detail = that epoch
--   3 the set is not that of this incarnation, or is incomplete: all of it has to be written

local marker = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'epoch', 'sequence', 'complete')
local epoch, sequence = tonumber(marker[3] or 0), tonumber(marker[4] or 0)
if marker[1] and marker[1] ~= ARGV[1] then
  return { 1, marker[1] }
end
if not (epoch <= tonumber(ARGV[3])) then
  return { 2, string.format('%.0f', epoch) }
end
local same = marker[2] == ARGV[2]
if ARGV[4] == 'change' and not (same and marker[5] == '1') then
  return { 3, '' }
end

local argument = 6
for i = 3, #KEYS do
  local name, record = ARGV[argument + 1], ARGV[argument + 2]
  argument = argument + 2
  if record == '' then
    redis.call('DEL', KEYS[i])
    redis.call('SREM', KEYS[2], name)
  else
    redis.call('SET', KEYS[i], record)
    redis.call('SADD', KEYS[2], name)
  end
end
sequence = math.max(sequence, tonumber(ARGV[6])) + 1
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[2], 'epoch', ARGV[3],
  'sequence', string.format('%.0f', sequence))
if ARGV[4] == 'complete' then
  redis.call('HSET', KEYS[1], 'complete', '1')
elseif ARGV[4] == 'partial' and not same then
  redis.call('HDEL', KEYS[1], 'complete')
end
if ARGV[4] ~= 'partial' then
  redis.call('PUBLISH', ARGV[5], string.format('key %.0f', sequence))
end
return { 0, string.format('%.0f', sequence) }
