"""The steps of delivery on Redis, one script each, so that each happens whole or not at all.

Keys of a queue, all under `dewey:{<queue>}:`

    queue      zset  run id → time it came in − 60 s × priority; lowest first
    since      zset  run id → time it came in, for the age of the oldest
    schedule   zset  run id → when it is due          priority  hash  run id → priority, until then
    message    hash  run id → the message
    held       hash  run id → consumer, worker, time, delivery, score, since, task: who runs it
    cancel     hash  run id → by whom it is to be cancelled while it runs
    deliveries hash  run id → times handed out        deaths    hash  run id → workers it took down
    dead       zset  run id → when it was given up
    spent:<id> the last attempt of a run that has ended, for as long as its result
    unique     hash  name → run id                    unique_of hash  run id → name
    locks      hash  name → owner, consumer, worker, until
    rate:<task>  zset of starts within the limit's time
    bell       list  rung by enqueuing; an idle worker blocks on it, since a script cannot block
    events     stream of history, numbered by `seq`
    kv:<key>, counter:<key>     results, revocations; counters
"""

from engine.delivery import PRIORITY_SECONDS

LIBRARY = """
local k = function(name) return KEYS[1] .. name end
local call = redis.call
local clock = call('time')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
-- As text: cjson rounds a number to 14 digits.
local stamp = string.format('%.6f', now)

local function event(line)
  call('xadd', k'events', call('incr', k'seq') .. '-0', 'e', line)
end
local function tell(kind, id, rest)
  rest.kind = kind; rest.id = id; rest.at = stamp
  event(cjson.encode(rest))
end
-- The dotted task, attempt and run id of a message; nothing where it is no message of ours.
local function header(data)
  local task, attempt, id = string.match(data or '', '^%S+ run (%S+) (%d+) (%S+) ')
  return task, tonumber(attempt), id
end
local function bare(task) return task and string.match(task, '[^.]*$') or '?' end
local function message(id) return call('hget', k'message', id) or '' end
local function is_there(id) return call('zscore', k'queue', id) or call('zscore', k'schedule', id) end
local function held(id)
  local raw = call('hget', k'held', id)
  return raw and cjson.decode(raw)
end

local function wait(id, score, since)
  call('zadd', k'queue', score, id); call('zadd', k'since', since, id)
  if call('llen', k'bell') < 64 then call('lpush', k'bell', '1') end
end
local function postpone(id, due, priority)
  call('zadd', k'schedule', due, id)
  if priority ~= 0 then call('hset', k'priority', id, priority) end
end
local function unqueue(id)
  call('zrem', k'queue', id); call('zrem', k'since', id); call('zrem', k'schedule', id); call('hdel', k'priority', id)
end

-- A message that is no news: its run is held, or has had this attempt already.
local function is_stale(id, data)
  if call('hexists', k'held', id) == 1 then return true end
  local _, attempt = header(data)
  if not attempt then return false end
  local _, there = header(call('hget', k'message', id) or '')
  local spent = tonumber(call('get', k'spent:' .. id) or 0)
  return attempt <= math.max(there or 0, spent)
end
-- Returns the id under which the run goes on: that of an earlier one where it is to be unique.
local function post(id, data, priority, due, unique, once, delivered, at)
  if once ~= '' and not call('set', k'kv:once:' .. once, '1', 'NX', 'EX', 604800) then return id end
  if unique ~= '' then
    local first = call('hget', k'unique', unique)
    if first and first ~= id and call('hexists', k'message', first) == 1 then return first end
  end
  if is_stale(id, data) then return id end
  if unique ~= '' then call('hset', k'unique', unique, id); call('hset', k'unique_of', id, unique) end
  call('hset', k'message', id, data)
  call('hdel', k'deaths', id); call('zrem', k'dead', id)
  unqueue(id)
  if delivered > 0 then call('hset', k'deliveries', id, delivered) end
  if due then postpone(id, due, priority) else wait(id, at - PRIORITY * priority, at) end
  return id
end
-- Effects from ARGV[i] on: number of messages, their seven words; results: key, data, ttl; events.
-- The line of history of a message that was not stored is not told either.
local function store(i)
  local ids, turned_away = {}, {}
  for n = 1, tonumber(ARGV[i]) do
    local id = ARGV[i + 1]
    -- A microsecond apart, so that what comes in together keeps its order.
    ids[n] = post(id, ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), ARGV[i + 5], ARGV[i + 6],
                  tonumber(ARGV[i + 7]), now + n / 1e6)
    if ids[n] ~= id then turned_away[id] = true end
    i = i + 7
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do
    call('set', k'kv:' .. ARGV[i + 1], ARGV[i + 2], 'EX', ARGV[i + 3])
    local waiting = k'done:' .. ARGV[i + 1]
    call('lpush', waiting, '1'); call('expire', waiting, 60)
    i = i + 3
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do
    if not next(turned_away) or not turned_away[cjson.decode(ARGV[i + 1]).id] then event(ARGV[i + 1]) end
    i = i + 1
  end
  return ids
end

local function forget(id)
  local unique = call('hget', k'unique_of', id)
  if unique then call('hdel', k'unique', unique); call('hdel', k'unique_of', id) end
  call('hdel', k'message', id); call('hdel', k'deliveries', id); call('hdel', k'deaths', id)
end
-- A run has ended: a message of this attempt that comes again is nothing new.
local function spend(id, data, ttl)
  local _, attempt = header(data)
  if attempt then call('set', k'spent:' .. id, attempt, 'EX', ttl) end
  forget(id)
end
local function release(consumer, worker)
  local all = call('hgetall', k'locks')
  for j = 1, #all, 2 do
    local lock = cjson.decode(all[j + 1])
    if lock[2] == consumer and (worker == '' or lock[3] == worker) then call('hdel', k'locks', all[j]) end
  end
end
local function give_back(consumer, worker, reason, most, counts)
  local n, all = 0, call('hgetall', k'held')
  for j = 1, #all, 2 do
    local id, h = all[j], cjson.decode(all[j + 1])
    if h[1] == consumer and (worker == '' or h[2] == worker) then
      call('hdel', k'held', id)
      local deaths = counts and call('hincrby', k'deaths', id, 1) or 0
      local dead = counts and deaths >= most
      if dead then call('zadd', k'dead', now, id) else wait(id, h[5], h[6]) end
      tell('returned', id, {task = h[7], delivery = h[4], worker = h[2], error = reason, dead = dead, counts = counts})
      n = n + 1
    end
  end
  release(consumer, worker)
  return n
end

-- False, and nothing stored, when the worker does not hold this delivery any more.
local function settle(consumer, id, delivery, failed, ttl, i)
  local h = held(id)
  if not h or h[1] ~= consumer or h[4] ~= tonumber(delivery) then return 0 end
  local data = message(id)
  call('hdel', k'held', id); call('hdel', k'message', id); call('hdel', k'cancel', id); call('del', k'kv:r:' .. id)
  call('hincrby', k'processed', consumer, 1)
  if failed == '1' then call('hincrby', k'failed', consumer, 1) end
  store(i)
  if not is_there(id) then spend(id, data, ttl) end
  return 1
end

-- The time from which a task of a limited rate may start again; nothing when it may now.
local function limited(task, limits)
  local limit = limits[task]
  if not limit then return nil end
  local key = k'rate:' .. task
  call('zremrangebyscore', key, '-inf', now - limit[2])
  if call('zcard', key) < limit[1] then return nil end
  return tonumber(call('zrange', key, -limit[1], -limit[1], 'withscores')[2]) + limit[2]
end
local function find(limits)
  local paused = {}
  for _, target in ipairs(call('hkeys', k'pause')) do paused[target] = true end
  if paused[''] then return nil end
  local chunk = (next(paused) or next(limits)) and 500 or 1
  local from = 0
  while true do
    local ids, moved = call('zrange', k'queue', from, from + chunk - 1), 0
    if #ids == 0 then return nil end
    for _, id in ipairs(ids) do
      local task = bare(header(message(id)))
      if not paused[task] then
        local again = limited(task, limits)
        if not again then return id end
        local score, since = call('zscore', k'queue', id), call('zscore', k'since', id)
        unqueue(id); postpone(id, again, (since - score) / PRIORITY)
        tell('limited', id, {due = string.format('%.6f', again)})
        moved = moved + 1
      end
    end
    from = from + chunk - moved
  end
end
local function hand_out(consumer, worker, limits)
  local id = find(limits)
  if not id then return nil end
  local score, since = call('zscore', k'queue', id), call('zscore', k'since', id)
  unqueue(id)
  local data = message(id)
  local dotted, attempt = header(data)
  local task = bare(dotted)
  local delivery = call('hincrby', k'deliveries', id, 1)
  call('hset', k'held', id, cjson.encode({consumer, worker, stamp, delivery, score, since or score, task}))
  -- Taking is a sign of life: what a consumer takes on waking is not reaped before its parent speaks.
  call('zadd', k'beat_at', 'XX', now, consumer)
  local limit = limits[task]
  if limit then
    call('zadd', k'rate:' .. task, now, id .. ' ' .. delivery); call('expire', k'rate:' .. task, math.ceil(limit[2]))
  end
  tell('started', id, {task = task, delivery = delivery, attempt = attempt or 1, consumer = consumer, worker = worker})
  local revoked = dotted and call('exists', k'kv:r:' .. id, k'kv:rt:' .. dotted) or 0
  return {id, delivery, data, revoked}
end
local function in_hand(consumer, worker)
  local all = call('hgetall', k'held')
  for j = 1, #all, 2 do
    local h = cjson.decode(all[j + 1])
    if h[1] == consumer and h[2] == worker then return {all[j], h[4], message(all[j]), 1} end
  end
end
""".replace("PRIORITY", str(PRIORITY_SECONDS))

SCRIPTS = {
    # ARGV effects… Returns the ids under which the runs go on.
    "apply": "return store(1)",
    # ARGV consumer, worker, whether to look first into what this worker holds, limits as JSON,
    # [run id, delivery, whether it failed, ttl, effects…] of the run before. One round trip a task.
    "turn": """
        local settled = ARGV[5] and settle(ARGV[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8], 9) or -1
        local taken = ARGV[3] == '1' and in_hand(ARGV[1], ARGV[2]) or hand_out(ARGV[1], ARGV[2], cjson.decode(ARGV[4]))
        return {settled, unpack(taken or {})}
    """,
    # ARGV consumer, run id, delivery, whether it failed, ttl, effects…
    "settle": "return settle(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], 6)",
    # ARGV run id, delivery, reason
    "bury": """
        local h = held(ARGV[1])
        if not h or h[4] ~= tonumber(ARGV[2]) then return 0 end
        call('hdel', k'held', ARGV[1]); call('zadd', k'dead', now, ARGV[1])
        tell('dead', ARGV[1], {delivery = h[4], error = ARGV[3]})
        return 1
    """,
    # ARGV consumer, worker or '', reason, most deliveries, whether it counts
    "give_back": "return give_back(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1')",
    # ARGV lease, most deliveries.
    # After an outage every beat is old: unless somebody reaped within a lease, all wait for everyone to beat again.
    "reap": """
        local last = call('getset', k'reaped', stamp)
        if not last or now - tonumber(last) > tonumber(ARGV[1]) then
          call('set', k'patience', string.format('%.6f', now + ARGV[1] / 2))
        end
        if now < tonumber(call('get', k'patience') or 0) then return {} end
        local all, silent = call('hgetall', k'held'), {}
        for j = 2, #all, 2 do
          local consumer = cjson.decode(all[j])[1]
          local at = call('zscore', k'beat_at', consumer)
          if not at or now - tonumber(at) > tonumber(ARGV[1]) then silent[consumer] = true end
        end
        local gone = {}
        for consumer in pairs(silent) do
          give_back(consumer, '', 'the consumer died', tonumber(ARGV[2]), true)
          gone[#gone + 1] = consumer
        end
        return gone
    """,
    # ARGV now, limit
    "move_due": """
        local ids = call('zrangebyscore', k'schedule', '-inf', ARGV[1], 'withscores', 'limit', 0, ARGV[2])
        for j = 1, #ids, 2 do
          local priority = tonumber(call('hget', k'priority', ids[j]) or 0)
          unqueue(ids[j])
          wait(ids[j], tonumber(ids[j + 1]) - PRIORITY * priority, ids[j + 1])
          tell('due', ids[j], {})
        end
        return #ids / 2
    """.replace("PRIORITY", str(PRIORITY_SECONDS)),
    # ARGV task, minute, effects…
    "tick": """
        local last = tonumber(call('hget', k'ticks', ARGV[1]) or -1)
        if tonumber(ARGV[2]) <= last then return 0 end
        call('hset', k'ticks', ARGV[1], ARGV[2])
        store(3)
        return 1
    """,
    # ARGV consumer, info
    "beat": "call('hset', k'beats', ARGV[1], ARGV[2]); call('zadd', k'beat_at', now, ARGV[1])",
    "forget": """
        for _, hash in ipairs{'beats', 'processed', 'failed'} do call('hdel', k(hash), ARGV[1]) end
        call('zrem', k'beat_at', ARGV[1])
    """,
    # ARGV run id, by whom, ttl. Removes a waiting run; marks a running one for its consumer to interrupt.
    "cancel": """
        local id = ARGV[1]
        if held(id) then call('hset', k'cancel', id, ARGV[2]); return 'running' end
        if not is_there(id) then return 'unknown' end
        unqueue(id); spend(id, message(id), ARGV[3])
        tell('cancelled', id, {by = ARGV[2]})
        return 'removed'
    """,
    # ARGV by whom, ttl, limit
    "purge": """
        local ids = call('zrange', k'queue', 0, ARGV[3] - 1)
        for _, id in ipairs(ids) do
          unqueue(id); spend(id, message(id), ARGV[2])
          tell('cancelled', id, {by = ARGV[1]})
        end
        return #ids
    """,
    # ARGV run id. Back to the queue, with its deaths forgiven.
    "requeue_dead": """
        if call('zrem', k'dead', ARGV[1]) == 0 then return 0 end
        call('hdel', k'deaths', ARGV[1])
        wait(ARGV[1], now, now)
        tell('requeued', ARGV[1], {})
        return 1
    """,
    # ARGV run id
    "discard_dead": """
        if call('zrem', k'dead', ARGV[1]) == 0 then return 0 end
        forget(ARGV[1])
        return 1
    """,
    # ARGV name, owner, consumer, worker, seconds or '', lease. A lock lives as long as its consumer beats, or its time.
    "lock": """
        local raw = call('hget', k'locks', ARGV[1])
        if raw then
          local lock = cjson.decode(raw)
          local beat = lock[2] ~= '' and call('zscore', k'beat_at', lock[2])
          local over = lock[4] ~= '' and now > tonumber(lock[4])
          local gone = lock[2] ~= '' and (not beat or now - tonumber(beat) > tonumber(ARGV[6]))
          if not over and not gone then return 0 end
        end
        local ends = ARGV[5] ~= '' and string.format('%.6f', now + ARGV[5]) or ''
        call('hset', k'locks', ARGV[1], cjson.encode({ARGV[2], ARGV[3], ARGV[4], ends}))
        return 1
    """,
    # ARGV name, owner or '' for whoever holds it
    "unlock": """
        local raw = call('hget', k'locks', ARGV[1])
        if not raw or (ARGV[2] ~= '' and cjson.decode(raw)[1] ~= ARGV[2]) then return 0 end
        return call('hdel', k'locks', ARGV[1])
    """,
}
