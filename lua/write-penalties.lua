-- write-penalties.lua: what there is to store of a machine. A fragment: included by decide.lua after index-penalties.lua.

-- Adds what to store of a machine to the fields and values of its hash, of whose meters there is `longest` to wait for.
-- Returns for how long all of it matters, as changes_of in write-subjects.lua does. A machine that did not change counts
-- too: its meters must not give it an end.
local function add_machine(entry, changed, longest)
  local matters = penalty.matters_for(entry.state, entry.config, now)
  if entry.changed then
    for _, value in ipairs({
      PENALTY_FIELD, penalty.write(entry.state), TEXT_FIELD, entry.text, DURATIONS_FIELD,
      penalty.write_durations(entry.config),
    }) do
      changed[#changed + 1] = value
    end
    longest = math.max(longest, matters or 0)
  end
  return matters and longest
end
