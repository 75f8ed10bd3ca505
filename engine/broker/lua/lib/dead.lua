-- Dead letters. Needs common, messages.

local function move_to_dead(id, held, fields)
  call('hdel', HELD, id); call('hset', run(id), 'deliveries', held.delivery)
  call('zadd', prefix .. 'dead', now, id)
  add_event('dead', id, fields)
end
