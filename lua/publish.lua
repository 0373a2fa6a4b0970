#!lua
-- publish.lua: moves the head of the configuration to a new manifest, fenced.
--
-- Documents are written before this runs, with a time to live, so that those of a publish that never happened go by
-- themselves. Here everything that the new manifest refers to is checked and made permanent, head is moved, and what
-- only the old manifest referred to is left to expire: pods that are still loading it can finish.
--
-- KEYS[1]      head
-- KEYS[2..]    documents that become referenced, then documents that no longer are
-- ARGV[1]      owner: who may publish here
-- ARGV[2]      epoch of the publisher (a lower one than the stored is refused)
-- ARGV[3]      incarnation that the publisher saw, or one that it made up if it saw no head
-- ARGV[4]      revision that the publisher saw, 0 if it saw no head
-- ARGV[5]      revision to publish, above every known one
-- ARGV[6]      manifest: name of the document that lists all others
-- ARGV[7]      number of documents that become referenced
-- ARGV[8]      milliseconds for which documents without a reference are kept
-- ARGV[9]      channel to announce the change on
-- Reply        {code, detail}
--   0 published; detail = time of Redis (microseconds)
--   1 another owner; detail = the owner
--   2 a publisher of a higher epoch was here; detail = that epoch
--   3 head is not what the publisher saw; detail = its revision, 0 if there is none
--   4 a document is missing; detail = its position, 1 = the first that becomes referenced

-- Arguments of one command: Lua can pass some thousands.
local AT_ONCE = 1000

local head = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'epoch', 'revision')
local owner, incarnation, epoch, revision = head[1], head[2], tonumber(head[3] or 0), tonumber(head[4] or 0)
local publisher_epoch, seen_revision = tonumber(ARGV[2]), tonumber(ARGV[4])
local becoming = tonumber(ARGV[7])

if owner and owner ~= ARGV[1] then
  return { 1, owner }
end
if not (epoch <= publisher_epoch) then
  return { 2, string.format('%.0f', epoch) }
end
if revision ~= seen_revision or (incarnation and incarnation ~= ARGV[3]) then
  return { 3, string.format('%.0f', revision) }
end
-- Many at once: everybody waits while this runs.
for first = 2, becoming + 1, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, becoming + 1)
  if redis.call('EXISTS', unpack(KEYS, first, last)) < last - first + 1 then
    for i = first, last do
      if redis.call('EXISTS', KEYS[i]) == 0 then
        return { 4, string.format('%.0f', i - 1) }
      end
    end
  end
end

local clock = redis.call('TIME')
local now = string.format('%.0f', tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
for i = 1, becoming do
  redis.call('PERSIST', KEYS[i + 1])
end
for i = becoming + 2, #KEYS do
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[3], 'epoch', ARGV[2], 'revision', ARGV[5],
  'manifest', ARGV[6], 'publishedAt', now)
redis.call('PUBLISH', ARGV[9], 'head ' .. ARGV[5])
return { 0, now }
