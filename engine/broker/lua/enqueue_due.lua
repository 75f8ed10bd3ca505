-- uses: common, messages
-- Returns the number of runs that moved from the schedule to the queue.
local due, limit = ARGV[1], ARGV[2]  -- due until this time

local ids = call('zrangebyscore', prefix .. 'schedule', '-inf', due, 'withscores', 'limit', 0, limit)
for j = 1, #ids, 2 do
  local fields = call('hmget', run(ids[j]), 'priority', 'since')
  local place = remove_from_queue(ids[j])
  -- A deferred run returns to its old place.
  if place then add_to_queue(ids[j], place, fields[2] or place)
  else add_to_queue(ids[j], tonumber(ids[j + 1]) - PRIORITY_SECONDS * (tonumber(fields[1]) or 0), ids[j + 1]) end
  add_unsigned_event('due', ids[j], {})
end
return #ids / 2
