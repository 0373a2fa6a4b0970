-- subject-states.lua: the states of one batch. A fragment: included by decide.lua after read-request.lua. A state is read
-- when it is first asked for, changed in memory, and written at the very end (write-subjects.lua), so that a request
-- sees what those before it in the batch have done.

-- Whether any state had to be moved because the clock stepped back.
local has_moved = false

local function entry_of(subject, field, limit)
  local entry = subject.states[field]
  if not entry then
    entry = { state = limit.algorithm.read(subject.stored[field], now, limit), limit = limit, changed = false }
    subject.states[field] = entry
  end
  return entry
end

-- The entry of a limit; looked up once.
local function counter_of(limit)
  local entry = limit.entry
  if not entry then
    entry = entry_of(limit.subject, limit.field, limit)
    limit.entry = entry
  end
  return entry
end

local function touch(subject, entry)
  entry.changed, subject.dirty = true, true
end

-- The state of a penalty, advanced to now.
local function machine_of(one)
  local entry = one.subject.states[PENALTY_FIELD]
  if not entry then
    entry = { state = penalty.read(one.subject.stored[PENALTY_FIELD]), config = one.config, changed = false }
    entry.text, entry.key, entry.index = one.text, one.key, one.index
    one.subject.states[PENALTY_FIELD] = entry
  end
  if penalty.advance(entry.state, one.config, now) then
    entry.moved, has_moved = true, true
  end
  return entry
end

local function copy(state)
  local copied = {}
  for name, value in pairs(state) do
    if type(value) == 'table' then
      local list = {}
      for i = 1, #value do
        list[i] = value[i]
      end
      value = list
    end
    copied[name] = value
  end
  return copied
end
