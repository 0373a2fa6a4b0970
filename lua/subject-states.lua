-- subject-states.lua: the states of one batch. A fragment: included by decide.lua. A hash is read when a request first
-- names it, a state of it when that is first asked for; states are changed in memory and written at the very end
-- (write-subjects.lua), so that a request sees what those before it in the batch have done.

-- One hash as read, by key, with the entries of its states that were computed since, as a list (`first`, its `next`, ...),
-- and with its penalty (`machine`), if it is the hash of one.
-- `false`: the key holds no hash.
local subjects = {}

-- Those of them that are to be written.
local dirty = {}

local function subject_of(key)
  local subject = subjects[key]
  if subject == nil then
    local stored = redis.pcall('HGETALL', key)
    subject = not stored.err and { key = key, stored = stored, first = false, machine = false, is_dirty = false }
    subjects[key] = subject
  end
  return subject
end

-- The fields of a hash are few: looking through them costs less than a table of them.
local function stored_in(subject, field)
  local stored = subject.stored
  for i = 1, #stored, 2 do
    if stored[i] == field then
      return stored[i + 1]
    end
  end
  return nil
end

local function found_in(subject, field)
  local entry = subject.first
  while entry and entry.field ~= field do
    entry = entry.next
  end
  return entry
end

local function entry_of(subject, field, limit)
  local entry = found_in(subject, field)
  if not entry then
    local state, ends = limit.algorithm.read(stored_in(subject, field), now, limit)
    entry = {
      field = field, state = state, stored_until = ends, limit = limit, changed = false, moved = false, next = subject.first,
    }
    subject.first = entry
  end
  return entry
end

local function touch(subject, entry)
  entry.changed = true
  if not subject.is_dirty then
    subject.is_dirty = true
    dirty[#dirty + 1] = subject
  end
end
