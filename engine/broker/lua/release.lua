-- uses: common, messages, finish, held, locks
-- Returns held messages to the queue. ARGV, then [run id, delivery, its event, the event if it is dead]…
-- Returns the number of released runs.
local consumer, worker = ARGV[1], ARGV[2]  -- worker '': any worker of the consumer
local max_deliveries, counts, keeps_locks = tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5] == '1'
local n = 0

for i = 6, #ARGV, 4 do
  local id, delivery, returned, returned_dead = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local entry = call('hget', HELD, id)
  local held = entry and parse_held(entry) or {}
  local is_same = held.consumer == consumer and held.delivery == delivery
  if is_same and (worker == '' or held.worker == worker) then
    call('hdel', HELD, id); call('hset', run(id), 'deliveries', held.delivery); call('hdel', run(id), 'met', 'met_at')
    local deaths = counts and call('hincrby', run(id), 'deaths', 1) or 0
    local cancelled = call('hget', run(id), 'cancel')
    local dead = counts and deaths >= max_deliveries and not cancelled
    if cancelled then mark_finished(id, held.attempt, FINISHED_SECONDS)
    elseif dead then call('zadd', prefix .. 'dead', now, id)
    else add_to_queue(id, held.score, held.since) end
    add_event(dead and returned_dead or returned)
    if cancelled then add_event(cancelled) end
    n = n + 1
  end
end
if not keeps_locks then release_locks(consumer, worker) end
return n
