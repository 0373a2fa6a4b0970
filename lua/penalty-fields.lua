-- penalty-fields.lua: what the hash of a penalty holds beside its meters; see penalty.lua. A fragment: included by all
-- scripts that look into one.

local PENALTY_FIELD = 's'
local TEXT_FIELD = 't'
local DURATIONS_FIELD = 'd'
