#!lua flags=no-writes
-- find-consumer-key.lua: looks up the record of an API key, and whether its absence means anything.
--
-- KEYS[1]      marker of the key set
-- KEYS[2]      record
-- ARGV[1]      owner whose key set the pod follows
-- Reply        {complete, record}
--   complete   1 if the key set is known to be complete: only then a missing record is an unknown key
--   record     JSON, or "" if there is none

local marker = redis.call('HMGET', KEYS[1], 'owner', 'complete')
local ours = marker[1] == ARGV[1]
return { (ours and marker[2] == '1') and 1 or 0, ours and redis.call('GET', KEYS[2]) or '' }
