-- uses: common, messages
-- Returns a dead run to the queue and resets its count of deaths.
local id, event = ARGV[1], ARGV[2]

if call('zrem', prefix .. 'dead', id) == 0 then return 0 end
call('hdel', run(id), 'deaths', 'cancel', 'met', 'met_at')
add_to_queue(id, now, now)
add_event(event)
return 1
