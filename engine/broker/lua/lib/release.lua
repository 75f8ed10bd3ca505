-- Returning held messages to the queue. Needs common, messages, finish, held, locks.

-- Releases the messages of a worker ('': all workers of the consumer). `only`: just this delivery of this run.
local function release(consumer, worker, reason, max_deliveries, counts, only, delivery)
  local n, all = 0, call('hgetall', HELD)
  for j = 1, #all, 2 do
    local id, held = all[j], parse_held(all[j + 1])
    local is_meant = only == '' or (id == only and held.delivery == delivery)
    if is_meant and held.consumer == consumer and (worker == '' or held.worker == worker) then
      call('hdel', HELD, id); call('hset', run(id), 'deliveries', held.delivery); call('hdel', run(id), 'met', 'met_at')
      local deaths = counts and call('hincrby', run(id), 'deaths', 1) or 0
      local cancelled_by = call('hget', run(id), 'cancel')
      local dead = counts and deaths >= max_deliveries and not cancelled_by
      if cancelled_by then mark_finished(id, held.attempt, FINISHED_SECONDS)
      elseif dead then call('zadd', prefix .. 'dead', now, id)
      else add_to_queue(id, held.score, held.since) end
      add_event('returned', id, with_holder(held, {error = reason, dead = dead, counts = counts}))
      if cancelled_by then add_event('cancelled', id, {by = cancelled_by}) end
      n = n + 1
    end
  end
  if only == '' then release_locks(consumer, worker) end
  return n
end
-- Requeues a run with an unreadable holder, under a delivery number that the holder does not have.
local function release_unreadable(id)
  call('hdel', HELD, id)
  local data, cancelled_by = unpack(call('hmget', run(id), 'message', 'cancel'))
  if not data then return end
  if cancelled_by then
    local _, attempt = parse_header(data)
    mark_finished(id, attempt, FINISHED_SECONDS)
    add_event('cancelled', id, {by = cancelled_by})
    return
  end
  call('hset', run(id), 'deliveries', (tonumber(call('hget', run(id), 'deliveries')) or 0) + 1)
  add_to_queue(id, now, now)
  add_event('requeued', id, {})
end
