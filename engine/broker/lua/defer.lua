-- uses: common, messages, held, dead
-- Moves a held message to the schedule, where a consumer with the missing task claims it, or after the grace to the
-- dead letters. Returns the new state, '' if the message is not held.
local consumer, id, delivery, task = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local met, grace = ARGV[5], ARGV[6]  -- met, JSON: which consumer lacked which task
local put_off, dead = ARGV[7], ARGV[8]  -- the events of the two outcomes

local entry = call('hget', HELD, id)
local held = entry and parse_held(entry)
if not held or held.consumer ~= consumer or held.delivery ~= delivery then return '' end
local met_at = tonumber(call('hget', run(id), 'met_at') or now) or now
if now >= met_at + grace then move_to_dead(id, held, dead); return 'dead' end
call('hdel', HELD, id)
call('hset', run(id), 'deliveries', held.delivery, 'missing', task, 'met', met,
     'met_at', string.format('%.6f', met_at))
if held.since ~= held.score then call('hset', run(id), 'since', held.since) end
call('zadd', prefix .. 'schedule', string.format('%.6f', met_at + grace), id)
call('zadd', prefix .. 'missing:' .. task, held.score, id); call('sadd', prefix .. 'missing', task)
add_event(put_off)
return 'scheduled'
