-- uses: common, messages, held, dead
local id, delivery, event = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local entry = call('hget', HELD, id)
local held = entry and parse_held(entry)
if not held or held.delivery ~= delivery then return 0 end
move_to_dead(id, held, event)
return 1
