-- uses: common, messages, insert
-- ARGV, then effects…
local task, minute = ARGV[1], ARGV[2]

local last = tonumber(call('hget', prefix .. 'ticks', task)) or -1
if tonumber(minute) <= last then return 0 end
call('hset', prefix .. 'ticks', task, minute)
write_effects(3)
return 1
