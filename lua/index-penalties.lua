-- index-penalties.lua: the index of those above NORMAL. A fragment: included by decide.lua before write-subjects.lua.
--
-- A sorted set for each partition: member = subject, score = when it is NORMAL again by itself (seconds since 1970, rounded
-- up; +inf = never). For listing only: no decision reads it. It holds at most so many, those that end last, and lives as
-- long as anything in it matters.

local MOST_INDEXED = 10000

local function index_penalty(entry)
  local key, subject = entry.index, string.match(entry.key, '[^:]+$')
  local falls = penalty.normal_in(entry.state, entry.config, now)
  local ends = falls and string.format('%.0f', math.ceil((now + falls) / 1000000)) or '+inf'
  -- A key that holds something else costs the list, never the penalty: by now the hash is written.
  if type(redis.pcall('ZADD', key, ends, subject)) == 'table' then
    return
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('(%.0f', math.floor(now / 1000000)))
  redis.call('ZREMRANGEBYRANK', key, 0, -MOST_INDEXED - 1)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last == 'inf' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, string.format('%.0f', tonumber(last) * 1000 - math.floor(now / 1000) + 1000))
  end
end
