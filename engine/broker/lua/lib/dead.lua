-- Dead letters. Needs common, messages.

local function move_to_dead(id, held, event)
  call('hdel', HELD, id); call('hset', run(id), 'deliveries', held.delivery)
  call('zadd', prefix .. 'dead', now, id)
  add_event(event)
end
