#!lua
-- decide.lua: atomic decisions over every rule and limit of each request of a batch, in order.
--
-- A request is admitted if and only if every rule that denies it is forgiven by a rule that waits for that denial; then
-- the limits of all rules that admit it are charged, otherwise none. Rules in shadow form groups that are judged in
-- their own right, charged as a whole, and never heard. Nothing is written before everything is read and computed. A
-- denial writes penalty state only (and after the clock of Redis stepped back, moves the state to the new time).
--
-- KEYS[1..n]   for each request the keys that its shape numbers: hashes of counters and of penalties, and indexes of
--              penalties, all in one slot; a key may be named by several requests
-- ARGV[1]      number of shapes
-- ARGV[2..]    the shapes: what requests have in common, each one text of parts with a space behind each. What only some
--              decisions need is one part, of numbers between commas
--   keys       number of keys of a request; "key" below is a number from 1 to it
--   penalties  number of them (0..16)
--   rules      number of them
--   then for each penalty
--     key        of its hash
--     index      key of the index of subjects above NORMAL
--     config     one part of the numbers that follow, between commas:
--     enforced   1, or 0 = the machine runs and is not heard
--     tolerance  percent of the full limit that the excess meters hold; 0 = every denial is a violation
--     window     seconds within which violations count
--     min_step   seconds between two steps up
--     warn       violations, duration (s); 0 violations = the state is left out
--     throttle   violations, duration (s), percent of every limit that is left
--     temp_block violations, duration (s)
--     block      temp blocks (0 = left out), within (s), duration (s; 0 = until pardoned)
--   then for each rule, after those that it waits for
--     group      0 = enforced, otherwise its group of shadow rules
--     penalty    index into the penalties of the request, 0 = none
--     throttled  1 if that penalty's percentage applies to it
--     cost       what it takes from each of its limits (requests, >= 1)
--     after      one part: - or conditions between commas, each index of a rule, ":", outcome (1 admitted, 2 denied,
--                3 not run). Its own index and 3: it runs, whatever becomes of the others
--     limits     number of its limits (1..16 in all rules of a request), then for each
--       key        of its hash
--       field      the field of the limit in that hash
--       algorithm  1 = token bucket, 2 = sliding window, 3 = sliding window log
--       capacity   requests: the depth of the bucket, or the most in any trailing window
--       refill     requests per window (token bucket; otherwise not used)
--       window     seconds
--       full       one part: capacity, refill while NORMAL (requests): what the excess meter is made from
-- then for each request
--   shape      number of its shape, from 1
--   mode       1 = consume; 0 = peek: the same answer, and nothing is written; 2.. = mode - 1 denials that a pod remembered
--              and answered by itself: the request lists only the rules and limits that had denied. Nothing is judged or
--              charged, the denials fill meters, all at once; at most one violation comes of it, none while a penalty blocks
--   subjects   for each penalty whom it is about, for people (<= 256 bytes)
-- Reply        the time of Redis (microseconds), then for each request one string of numbers:
--   2                                       a key of it holds something else (WRONGTYPE)
--   <code> <retry_after> <by_throttle> <penalty>... <rule>...
--     code         1 admitted, 0 denied, 3 blocked by a penalty (rules are not judged then: all have outcome 3). Of
--                  remembered denials 0 or 3, with retry_after 0 and all outcomes 3
--     retry_after  microseconds after which the whole request would pass; 0 = now, -1 = never at these limits
--     by_throttle  1 if the request would have passed but for the percentage of a penalty
--     <penalty>    state before, state after (0 NORMAL, 1 WARN, 2 THROTTLE, 3 TEMP_BLOCK, 4 BLOCK), microseconds until
--                  the state after ends (-1 = never by itself, 0 = NORMAL), violations
--     <rule>       outcome (1 admitted, 2 denied, 3 not run, 4 denied and forgiven), then if it ran for each limit
--                  remaining (requests), retry_after (as above, of this limit alone), reset_after (microseconds)

-- Functions are made anew at each call, and each costs more than it takes to run once, most of all by the locals around it
-- that it uses. So there are few of them, what is rare makes its own on first use, and numbers of the protocol stand for
-- themselves: made all at once they took longer than a decision.

-- The time in a form that tests can replace as a whole: it is read here and nowhere else. Text times number is a number,
-- for less than half of what tonumber costs.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- Whether any state had to be moved because the clock stepped back.
local batch = { has_moved = false }

local algorithms = {}

local function algorithm_of(code)
  if algorithms[code] then
    return algorithms[code]
  end
  local algorithm
  if code == '1' then
--@include token-bucket.lua
    algorithm = bucket
  elseif code == '2' then
--@include sliding-window.lua
    algorithm = ring
  else
--@include sliding-window-log.lua
    algorithm = log
  end
  algorithms[code] = algorithm
  return algorithm
end

--@include subject-states.lua
--@include read-request.lua
--@include judge-plainly.lua

-- What only penalties, shadow rules, conditions and a clock that stepped back need.
local function make_whole(states)
  local now, batch, algorithm_of, entry_of = states.now, states.batch, states.algorithm_of, states.entry_of
  local stored_in, found_in, touch = states.stored_in, states.found_in, states.touch
  local ADMITTED, DENIED, NOT_RUN, FORGIVEN = 1, 2, 3, 4
--@include penalty-fields.lua
--@include penalty.lua
--@include judge-rules.lua
--@include judge-request.lua
--@include index-penalties.lua
--@include write-penalties.lua
  return { decide = decide_whole, keep_moved = keep_moved, add_machine = add_machine, index = index_penalty }
end

local whole = false

--@include write-subjects.lua

local shapes, argument = {}, 1 + ARGV[1]
for i = 2, argument do
  shapes[i - 1] = read_shape(ARGV[i])
end

-- `named` keys were named by the requests before the one in hand.
local replies, named, last = { now }, 0, #ARGV
while argument < last do
  local request, mode = shapes[ARGV[argument + 1] * 1], ARGV[argument + 2]
  local is_readable, is_quiet = bind(request, named, argument + 2)
  argument, named = argument + 2 + #request.penalties, named + request.keys
  request.consumes, request.remembered = mode == '1', mode - 1
  local is_plain = is_quiet and request.is_plain and request.remembered <= 0
  local admitted, longest
  if is_plain then
    admitted, longest = judge_plainly(request)
    -- A denial may be a violation.
    is_plain = admitted or not request.consumes or #request.penalties == 0
  end
  if not whole and (batch.has_moved or is_readable and not is_plain) then
    whole = make_whole({
      now = now, batch = batch, algorithm_of = algorithm_of, entry_of = entry_of, stored_in = stored_in,
      found_in = found_in, touch = touch,
    })
  end
  local reply = '2'
  if is_readable and is_plain then
    reply = settle_plainly(request, admitted and request.consumes,
      admitted and '1 0 0' or string.format('0 %d 0', longest))
    if batch.has_moved and request.consumes then
      whole.keep_moved(request)
    end
  elseif is_readable then
    reply = whole.decide(request)
  end
  replies[#replies + 1] = reply
end
for i = 1, #dirty do
  store(dirty[i])
end
return replies
