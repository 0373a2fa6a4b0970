#!lua
-- publish.lua: one step of a publish, fenced. Few documents are published in one step; of many, each step deals with
-- some, so that Redis answers others in between. store/publish.ts has the order of steps.
--
-- What head refers to never expires, at no time. So documents, which are written with a time to live, are made permanent
-- before head moves, and those that only the manifest before needed are left to expire afterwards: pods that are still
-- loading them can finish. Between the first and the last of these steps `settling` in head names the other manifest of
-- which documents may be permanent, for whoever has to go on. It is another text after each step: a step that finds
-- another one than the step before it wrote is refused. So nobody else came between, and no step is missing in a Redis
-- that lost its last writes, as it lost this one with them.
--
-- KEYS[1]      head
-- KEYS[2..]    documents to make permanent, then documents to leave to expire
-- ARGV[1]      owner: who may publish here
-- ARGV[2]      epoch of the publisher (a lower one than the stored is refused)
-- ARGV[3]      incarnation that the publisher saw, or one that it made up if it saw no head
-- ARGV[4]      revision that the publisher saw, 0 if it saw no head
-- ARGV[5]      settling, as the publisher saw or wrote it; empty = there is none
-- ARGV[6]      settling, as it is to be; empty = none
-- ARGV[7]      number of documents to make permanent
-- ARGV[8]      milliseconds for which documents without a reference are kept
-- ARGV[9]      revision to publish, above every known one; 0 = head stays where it is
-- ARGV[10]     manifest to publish: name of the document that lists all others
-- ARGV[11]     channel to announce it on
-- Reply        {code, detail}
--   0 done; detail = empty
--   1 another owner; detail = the owner
--   2 a publisher of a higher epoch was here; detail = that epoch
--   3 head is not what the publisher saw; detail = its revision, 0 if there is none
--   4 a document is missing; detail = its position, 1 = the first to make permanent

local head = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'epoch', 'revision', 'settling')
local owner, incarnation, epoch, revision = head[1], head[2], tonumber(head[3] or 0), tonumber(head[4] or 0)
local settling = head[5] or ''
local publisher_epoch, seen_revision = tonumber(ARGV[2]), tonumber(ARGV[4])
local staying = tonumber(ARGV[7])

if owner and owner ~= ARGV[1] then
  return { 1, owner }
end
if not (epoch <= publisher_epoch) then
  return { 2, string.format('%.0f', epoch) }
end
if revision ~= seen_revision or (incarnation and incarnation ~= ARGV[3]) or settling ~= ARGV[5] then
  return { 3, string.format('%.0f', revision) }
end
if staying > 0 and redis.call('EXISTS', unpack(KEYS, 2, staying + 1)) < staying then
  for i = 1, staying do
    if redis.call('EXISTS', KEYS[i + 1]) == 0 then
      return { 4, string.format('%.0f', i) }
    end
  end
end

for i = 1, staying do
  redis.call('PERSIST', KEYS[i + 1])
end
for i = staying + 2, #KEYS do
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'settling', ARGV[6])
elseif settling ~= '' then
  redis.call('HDEL', KEYS[1], 'settling')
end
if ARGV[9] ~= '0' then
  local clock = redis.call('TIME')
  local now = string.format('%.0f', tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[3], 'epoch', ARGV[2], 'revision', ARGV[9],
    'manifest', ARGV[10], 'publishedAt', now)
  redis.call('PUBLISH', ARGV[11], 'head ' .. ARGV[9])
end
return { 0, '' }
