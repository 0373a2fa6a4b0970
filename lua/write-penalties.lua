-- write-penalties.lua: what there is to store of a machine. A fragment: included by decide.lua after index-penalties.lua.

-- Adds what to store of a machine to the fields and values of its hash. For how many microseconds it matters: nil = for ever.
-- Asked also for a machine that did not change: its meters must not give it an end.
local function add_machine(changed, entry)
  local matters = penalty.matters_for(entry.state, entry.config, now)
  if entry.changed then
    for _, value in ipairs({
      PENALTY_FIELD, penalty.write(entry.state), TEXT_FIELD, entry.text, DURATIONS_FIELD,
      penalty.write_durations(entry.config),
    }) do
      changed[#changed + 1] = value
    end
  end
  return matters
end
