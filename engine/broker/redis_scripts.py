"""The steps of delivery on Redis, one script each, so that each happens whole or not at all.

Keys of a queue, all under `dewey:{<queue>}:`

    run:<id>   hash  message · since: time it came in, where its place in the queue is another · deliveries: times it
                     was handed out and came back · deaths: workers it took down · unique: its name ·
                     priority, while it is scheduled · cancel: by whom, while it runs · met, met_at: who could not
                     run it for want of which task, and when first · missing: that task, while it is put off for it
    queue      zset  run id → time it came in − 60 s × priority; lowest first
    since      zset  run id → time it came in, of those whose place is another
    schedule   zset  run id → when it is due
    missing    set   of tasks, dotted, for which something is put off
    missing:<task>  zset  run id → its place in the queue, of what is in the schedule only to wait for this task
    held       hash  run id → consumer, delivery, mark, attempt, worker, time, score, since, task: who runs it. The
                     mark is u where the run is unique else -; c in its place, or C, once it is to be cancelled
    dead       zset  run id → when it was given up
    spent:<id> the last attempt of a run that has ended without a result, for as long as one would be kept
    unique     hash  name → run id
    locks      hash  name → owner, consumer, worker, until
    rate:<task>  zset of starts within the limit's time
    pause      hash  target → info                    pause_schedule  hash  the same, for what the clock starts
    bell       list  rung by enqueuing; an idle worker blocks on it, since a script cannot block
    events     stream of history
    kv:<key>, counter:<key>     results, whose first words tell the last attempt; revocations; counters
    waits:<key>, done:<key>     somebody waits for this result; the list that wakes them

Each call of the server costs a script more than anything it does by itself, so the common way has as few as it can.
"""

from engine.broker.effects import PRIORITY_SECONDS

#: What every script begins with.
HEAD = """
local prefix = KEYS[1]
local call, match = redis.call, string.match
local clock = call('time')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
-- As text: a number would be cut to 14 digits on its way.
local function stamp() return string.format('%.6f', now) end
local QUEUE, SINCE, HELD, EVENTS = prefix .. 'queue', prefix .. 'since', prefix .. 'held', prefix .. 'events'

-- The run that is being settled: it stands in the way of no follow-up of its name.
local ending

local function run(id) return prefix .. 'run:' .. id end
-- The dotted task and the attempt of a message; nothing where it is no message of ours.
local function header(data)
  local task, attempt = match(data or '', '^%S+ run (%S+) (%d+) %S+ ')
  return task, tonumber(attempt)
end
local function bare(task) return task and (match(task, '^.*%.(.*)$') or task) or '?' end

""".lstrip()

#: Taking a message in: to the queue, or to the schedule.
POSTING = """
local function tell(kind, id, rest)
  rest.kind = kind; rest.id = id; rest.at = stamp()
  call('xadd', EVENTS, '*', 'e', cjson.encode(rest))
end
local function message(id) return call('hget', run(id), 'message') or '' end
local function is_there(id) return call('zscore', QUEUE, id) or call('zscore', prefix .. 'schedule', id) end
-- What is known of an entry of `held`: nothing where it is malformed.
local function parts(h)
  local consumer, delivery, attempt, worker, at, score, since, task =
    match(h, '^(%S+) (%d+) %S (%d+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not (tonumber(at) and tonumber(score) and tonumber(since)) then return {} end
  return {consumer = consumer, delivery = tonumber(delivery), attempt = tonumber(attempt), worker = worker, at = at,
          score = score, since = since, task = task}
end


local function wait(id, score, since)
  call('zadd', QUEUE, score, id)
  if tonumber(since) ~= tonumber(score) then
    call('zadd', SINCE, since, id); call('hset', run(id), 'since', since)
  end
  if call('llen', prefix .. 'bell') < 64 then call('lpush', prefix .. 'bell', '1') end
end
local function postpone(id, due, priority)
  call('zadd', prefix .. 'schedule', due, id)
  if priority ~= 0 then call('hset', run(id), 'priority', priority) end
end
-- Returns the place in the queue of a run that was put off; nothing where it was not.
local function take_from(task, id)
  local score = call('zscore', prefix .. 'missing:' .. task, id)
  call('zrem', prefix .. 'missing:' .. task, id)
  if call('exists', prefix .. 'missing:' .. task) == 0 then call('srem', prefix .. 'missing', task) end
  return score
end
local function unqueue(id)
  call('zrem', QUEUE, id); call('zrem', SINCE, id); call('zrem', prefix .. 'schedule', id)
  local task = call('hget', run(id), 'missing')
  call('hdel', run(id), 'priority', 'since', 'missing')
  return task and take_from(task, id)
end

-- Whether a message of a run that was seen before is news: not while it is held, nor with an attempt that it has had.
local function is_news(id, data)
  if call('hexists', HELD, id) == 1 then return false end
  local _, attempt = header(data)
  local _, there = header(message(id))
  local result = call('get', prefix .. 'kv:' .. id) or ''
  local spent = call('get', prefix .. 'spent:' .. id) or match(result, '^%S+ %S+ %S+ (%d+)')
  return not attempt or attempt > math.max(there or 0, tonumber(spent) or 0)
end
-- Returns the id under which the run goes on, an earlier one's where it is to be unique, and whether this is stored.
local function post(id, data, priority, due, unique, once, delivered, told, at)
  if once ~= '' and not call('set', prefix .. 'kv:once:' .. once, '1', 'NX', 'EX', 604800) then return id, false end
  if unique ~= '' then
    local first = call('hget', prefix .. 'unique', unique)
    local stays = first and first ~= id and first ~= ending and call('exists', run(first)) == 1
    if stays and not call('zscore', prefix .. 'dead', first) then
      return first, false
    end
  end
  if call('exists', run(id), prefix .. 'spent:' .. id, prefix .. 'kv:' .. id) > 0 then
    if not is_news(id, data) then return id, false end
    unqueue(id); call('zrem', prefix .. 'dead', id); call('hdel', run(id), 'deaths', 'met', 'met_at')
  end
  call('persist', prefix .. 'kv:r:' .. id)
  call('hset', run(id), 'message', data)
  if unique ~= '' then call('hset', prefix .. 'unique', unique, id); call('hset', run(id), 'unique', unique) end
  if delivered > 0 then call('hset', run(id), 'deliveries', delivered) end
  if due then postpone(id, due, priority) else wait(id, at - PRIORITY * priority, at) end
  if told then call('xadd', EVENTS, '*', 'e', data) end
  return id, true
end
""".replace("PRIORITY", str(PRIORITY_SECONDS)).lstrip()

#: The end of a run and the handing out of the next, where nothing is posted, paused or limited.
SETTLING = """
-- Wakes who waits for a result.
local function ring(key)
  call('lpush', prefix .. 'done:' .. key, '1'); call('expire', prefix .. 'done:' .. key, 60)
end
-- Effects from ARGV[i] on: number of messages, their eight words; results: key, data, ttl; events.
-- Returns the ids under which the runs go on, and what was stored: runs and results.
local function store(i)
  local ids, stored = {}, {}
  for n = 1, tonumber(ARGV[i]) do
    local id = ARGV[i + 1]
    -- A microsecond apart, so that what comes in together keeps its order.
    ids[n], stored[id] = post(id, ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), ARGV[i + 5], ARGV[i + 6],
                              tonumber(ARGV[i + 7]), ARGV[i + 8] == '1', now + n / 1e6)
    i = i + 8
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do
    local key = ARGV[i + 1]
    call('set', prefix .. 'kv:' .. key, ARGV[i + 2], 'EX', ARGV[i + 3])
    stored['kv:' .. key] = match(ARGV[i + 2], '^%S+ value %S+ [1-9]')
    if key ~= ending and call('del', prefix .. 'waits:' .. key) == 1 then ring(key) end
    i = i + 3
  end
  i = i + 1
  for j = i + 1, i + tonumber(ARGV[i]) do call('xadd', EVENTS, '*', 'e', ARGV[j]) end
  return ids, stored
end

-- A run has ended: nothing of it stays but that a message of this attempt which comes again is nothing new. Returns how
-- many things of it were there.
local function forget(id, is_unique)
  local unique = is_unique and call('hget', run(id), 'unique')
  if unique and call('hget', prefix .. 'unique', unique) == id then call('hdel', prefix .. 'unique', unique) end
  return call('del', run(id), prefix .. 'kv:r:' .. id, prefix .. 'waits:' .. id)
end
local function spend(id, attempt, ttl)
  if attempt then call('set', prefix .. 'spent:' .. id, attempt, 'EX', ttl) end
  forget(id, true)
end
-- 0, and nothing stored, when the worker does not hold this delivery any more; -2 and by whom, and nothing stored, when
-- the run was cancelled and this outcome does not say so itself.
local function settle(consumer, id, delivery, attempt, ttl, is_cancel, i)
  local h, mine = call('hget', HELD, id), consumer .. ' ' .. delivery .. ' '
  if not h or string.sub(h, 1, #mine) ~= mine then return 0 end
  local mark = string.sub(h, #mine + 1, #mine + 1)
  if is_cancel ~= '1' and (mark == 'c' or mark == 'C') then return -2, call('hget', run(id), 'cancel') or '?' end
  call('hdel', HELD, id)
  ending = id
  local _, stored = store(i)
  if stored[id] then
    call('hdel', run(id), 'cancel'); call('hset', run(id), 'deliveries', delivery); call('del', prefix .. 'kv:r:' .. id)
  elseif not stored['kv:' .. id] then spend(id, attempt, ttl)
  -- The run itself is one that is gone; where there were more, somebody may wait for the result.
  elseif forget(id, mark == 'u' or mark == 'C') > 1 then ring(id) end
  return 1
end

local function hold(consumer, worker, id, score, limits)
  local known = call('hmget', run(id), 'message', 'deliveries', 'since', 'unique')
  local data, delivery, since = known[1] or '', (tonumber(known[2]) or 0) + 1, known[3]
  local dotted, attempt = header(data)
  local task = bare(dotted)
  if since then call('zrem', SINCE, id); call('hdel', run(id), 'since') end
  call('hset', HELD, id, table.concat({consumer, delivery, known[4] and 'u' or '-', attempt or 1, worker, stamp(),
                                       score, since or score, task}, ' '))
  local limit = limits and limits[task]
  if limit then
    local key = prefix .. 'rate:' .. task
    call('zadd', key, now, id .. ' ' .. delivery); call('expire', key, math.ceil(limit[2]))
  end
  local revoked = dotted and call('exists', prefix .. 'kv:r:' .. id, prefix .. 'kv:rt:' .. dotted) or 0
  return {id, delivery, data, revoked}
end
""".lstrip()

#: Everything else.
STEERING = """
-- How long a message of a cancelled run that comes again is known for what it is.
local SPENT_SECONDS = 86400
-- Owner, consumer, worker, until; nothing where the entry is malformed, and the lock is nobody's.
local function lock_of(raw)
  local decoded, lock = pcall(cjson.decode, raw)
  if not decoded or type(lock) ~= 'table' then return nil end
  for j = 1, 4 do
    if type(lock[j]) ~= 'string' then return nil end
  end
  return (lock[4] == '' or tonumber(lock[4])) and lock or nil
end
local function release(consumer, worker)
  local all = call('hgetall', prefix .. 'locks')
  for j = 1, #all, 2 do
    local lock = lock_of(all[j + 1])
    if lock and lock[2] == consumer and (worker == '' or lock[3] == worker) then
      call('hdel', prefix .. 'locks', all[j])
    end
  end
end
local function give_back(consumer, worker, reason, most, counts, only, delivery)
  local n, all = 0, call('hgetall', HELD)
  for j = 1, #all, 2 do
    local id, h = all[j], parts(all[j + 1])
    local is_meant = only == '' or (id == only and h.delivery == delivery)
    if is_meant and h.consumer == consumer and (worker == '' or h.worker == worker) then
      call('hdel', HELD, id); call('hset', run(id), 'deliveries', h.delivery); call('hdel', run(id), 'met', 'met_at')
      local deaths = counts and call('hincrby', run(id), 'deaths', 1) or 0
      local cancelled_by = call('hget', run(id), 'cancel')
      local dead = counts and deaths >= most and not cancelled_by
      if cancelled_by then spend(id, h.attempt, SPENT_SECONDS)
      elseif dead then call('zadd', prefix .. 'dead', now, id)
      else wait(id, h.score, h.since) end
      tell('returned', id, {task = h.task, delivery = h.delivery, attempt = h.attempt, started = h.at,
                            worker = h.worker, consumer = h.consumer, error = reason, dead = dead, counts = counts})
      if cancelled_by then tell('cancelled', id, {by = cancelled_by}) end
      n = n + 1
    end
  end
  if only == '' then release(consumer, worker) end
  return n
end
-- Who holds this run cannot be read: it goes back to the queue, under a number that whoever has it does not know.
local function take_back(id)
  call('hdel', HELD, id)
  local data, cancelled_by = unpack(call('hmget', run(id), 'message', 'cancel'))
  if not data then return end
  if cancelled_by then
    local _, attempt = header(data)
    spend(id, attempt, SPENT_SECONDS)
    tell('cancelled', id, {by = cancelled_by})
    return
  end
  call('hset', run(id), 'deliveries', (tonumber(call('hget', run(id), 'deliveries')) or 0) + 1)
  wait(id, now, now)
  tell('requeued', id, {})
end

-- The time from which a task of a limited rate may start again; nothing when it may now.
local function limited(task, limits)
  local limit = limits[task]
  if not limit then return nil end
  local key = prefix .. 'rate:' .. task
  call('zremrangebyscore', key, '-inf', now - limit[2])
  if call('zcard', key) < limit[1] then return nil end
  return tonumber(call('zrange', key, -limit[1], -limit[1], 'withscores')[2]) + limit[2]
end
-- The first that may start, with its score: where something is paused or limited, what comes before it is passed over.
local function find(paused, limits)
  local from = 0
  while true do
    local ids, moved = call('zrange', QUEUE, from, from + 499, 'withscores'), 0
    if #ids == 0 then return nil end
    for j = 1, #ids, 2 do
      local id, score = ids[j], ids[j + 1]
      local task = bare(header(message(id)))
      if not paused[task] then
        local again = limited(task, limits)
        if not again then return id, score end
        local since = call('zscore', SINCE, id) or score
        unqueue(id); postpone(id, again, (since - score) / PRIORITY)
        tell('limited', id, {due = string.format('%.6f', again)})
        moved = moved + 1
      end
    end
    from = from + 500 - moved
  end
end
-- The first that was put off for want of a task which is known here, with its place.
local function first_known(paused, limits, known)
  local first, place
  for _, task in ipairs(call('smembers', prefix .. 'missing')) do
    local found = known[task] and call('zrange', prefix .. 'missing:' .. task, 0, 0, 'withscores') or {}
    local name = found[1] and bare(header(message(found[1])))
    if name and not call('zscore', prefix .. 'schedule', found[1]) then
      take_from(task, found[1])  -- code that knows of no such place has moved it on
    elseif name and not paused[name] and not limited(name, limits) and (not place or tonumber(found[2]) < place) then
      first, place = found[1], tonumber(found[2])
    end
  end
  return first, place
end
local function hand_out(consumer, worker, limits, known)
  local paused = {}
  for _, target in ipairs(call('hkeys', prefix .. 'pause')) do paused[target] = true end
  if paused[''] then return nil end
  local id, score = find(paused, limits)
  local other, place = first_known(paused, limits, known)
  if not other or (id and tonumber(score) < place) then
    if id then call('zrem', QUEUE, id) end
  else
    local since = call('hget', run(other), 'since')
    id, score = other, unqueue(other)
    if since then call('hset', run(id), 'since', since) end
    call('hdel', run(id), 'met', 'met_at')
  end
  return id and hold(consumer, worker, id, score, limits)
end
local function bury(id, h, facts)
  call('hdel', HELD, id); call('hset', run(id), 'deliveries', h.delivery)
  call('zadd', prefix .. 'dead', now, id)
  tell('dead', id, facts)
end
-- What an event tells of who held a run.
local function of_holder(h, facts)
  facts.task = h.task; facts.delivery = h.delivery; facts.attempt = h.attempt; facts.started = h.at
  facts.worker = h.worker; facts.consumer = h.consumer
  return facts
end
local function in_hand(consumer, worker)
  local all = call('hgetall', HELD)
  for j = 1, #all, 2 do
    local h = parts(all[j + 1])
    if h.consumer == consumer and h.worker == worker then return {all[j], h.delivery, message(all[j]), 1} end
  end
end
""".replace("PRIORITY", str(PRIORITY_SECONDS)).lstrip()

LIBRARY = HEAD + POSTING + SETTLING + STEERING

SCRIPTS = {
    # ARGV effects… Returns the ids under which the runs go on.
    "apply": "return store(1)",
    # ARGV consumer, worker, whether to look first into what this worker holds, limits as JSON, known tasks as JSON,
    # [run id, delivery, attempt, ttl, whether it is a cancel, effects…] of the run before. One round trip a task.
    "turn": """
        local settled, by = -1, nil
        if ARGV[6] then settled, by = settle(ARGV[1], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], 11) end
        if settled == -2 then return {settled, by} end
        local limits, known = cjson.decode(ARGV[4]), {}
        for _, task in ipairs(cjson.decode(ARGV[5])) do known[task] = true end
        local taken = ARGV[3] == '1' and in_hand(ARGV[1], ARGV[2]) or hand_out(ARGV[1], ARGV[2], limits, known)
        return {settled, unpack(taken or {})}
    """,
    # ARGV consumer, run id, delivery, attempt, ttl, whether it is a cancel, effects…
    "settle": "return {settle(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], 7)}",
    # ARGV run id, delivery, reason
    "bury": """
        local h = call('hget', HELD, ARGV[1])
        h = h and parts(h)
        if not h or h.delivery ~= tonumber(ARGV[2]) then return 0 end
        bury(ARGV[1], h, of_holder(h, {error = ARGV[3]}))
        return 1
    """,
    # ARGV consumer, run id, delivery, missing task, why as JSON, error and version for the event, grace. To the
    # schedule, where a consumer that knows the task finds it, or to the dead when the grace is over. Returns which.
    "put_off": """
        local id, task = ARGV[2], ARGV[4]
        local h = call('hget', HELD, id)
        h = h and parts(h)
        if not h or h.consumer ~= ARGV[1] or h.delivery ~= tonumber(ARGV[3]) then return '' end
        local facts = of_holder(h, {error = ARGV[6], version = ARGV[7], unknown = true})
        local met_at = tonumber(call('hget', run(id), 'met_at') or now)
        if now >= met_at + ARGV[8] then bury(id, h, facts); return 'dead' end
        call('hdel', HELD, id)
        call('hset', run(id), 'deliveries', h.delivery, 'missing', task, 'met', ARGV[5],
             'met_at', string.format('%.6f', met_at))
        if h.since ~= h.score then call('hset', run(id), 'since', h.since) end
        call('zadd', prefix .. 'schedule', string.format('%.6f', met_at + ARGV[8]), id)
        call('zadd', prefix .. 'missing:' .. task, h.score, id); call('sadd', prefix .. 'missing', task)
        tell('put_off', id, facts)
        return 'scheduled'
    """,
    # ARGV consumer, worker or '', reason, most deliveries, whether it counts, only this run id or '', its delivery
    "give_back": """
        return give_back(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6], tonumber(ARGV[7]))
    """,
    # ARGV lease, most deliveries.
    # After an outage every beat is old: unless somebody reaped within a lease, all wait for everyone to beat again.
    "reap": """
        local last = call('getset', prefix .. 'reaped', stamp())
        if not last or now - (tonumber(last) or 0) > tonumber(ARGV[1]) then
          call('set', prefix .. 'patience', string.format('%.6f', now + ARGV[1] / 2))
        end
        if now < (tonumber(call('get', prefix .. 'patience')) or 0) then return {} end
        local all, last_took, gone = call('hgetall', HELD), {}, {}
        for j = 1, #all, 2 do
          local h = parts(all[j + 1])
          if h.consumer then
            last_took[h.consumer] = math.max(last_took[h.consumer] or 0, tonumber(h.at))
          else
            take_back(all[j])
          end
        end
        -- Taking is a sign of life: what a consumer takes on waking is not reaped before its parent speaks.
        for consumer, took in pairs(last_took) do
          local at = call('zscore', prefix .. 'beat_at', consumer)
          if not at or now - math.max(tonumber(at), took) > tonumber(ARGV[1]) then
            give_back(consumer, '', 'the consumer died', tonumber(ARGV[2]), true, '')
            gone[#gone + 1] = consumer
          end
        end
        return gone
    """,
    # ARGV now, limit
    "move_due": """
        local ids = call('zrangebyscore', prefix .. 'schedule', '-inf', ARGV[1], 'withscores', 'limit', 0, ARGV[2])
        for j = 1, #ids, 2 do
          local known = call('hmget', run(ids[j]), 'priority', 'since')
          local place = unqueue(ids[j])
          -- What was put off goes back to where it stood.
          if place then wait(ids[j], place, known[2] or place)
          else wait(ids[j], tonumber(ids[j + 1]) - PRIORITY * (tonumber(known[1]) or 0), ids[j + 1]) end
          tell('due', ids[j], {})
        end
        return #ids / 2
    """.replace("PRIORITY", str(PRIORITY_SECONDS)),
    # ARGV task, minute, effects…
    "tick": """
        local last = tonumber(call('hget', prefix .. 'ticks', ARGV[1])) or -1
        if tonumber(ARGV[2]) <= last then return 0 end
        call('hset', prefix .. 'ticks', ARGV[1], ARGV[2])
        store(3)
        return 1
    """,
    # ARGV consumer, info
    "beat": "call('hset', prefix .. 'beats', ARGV[1], ARGV[2]); call('zadd', prefix .. 'beat_at', now, ARGV[1])",
    "forget": "call('hdel', prefix .. 'beats', ARGV[1]); call('zrem', prefix .. 'beat_at', ARGV[1])",
    # ARGV run id, by whom, ttl. Removes a waiting run; marks a running one for its consumer to interrupt.
    "cancel": """
        local id = ARGV[1]
        local h = call('hget', HELD, id)
        if h then
          call('hset', run(id), 'cancel', ARGV[2])
          call('hset', HELD, id, (string.gsub(h, '^(%S+ %d+ )(%S)', function(words, mark)
            return words .. (({['-'] = 'c', u = 'C'})[mark] or mark)
          end)))
          return 'running'
        end
        if not is_there(id) then return 'unknown' end
        local _, attempt = header(message(id))
        unqueue(id); spend(id, attempt, ARGV[3])
        tell('cancelled', id, {by = ARGV[2]})
        return 'removed'
    """,
    # ARGV by whom, ttl, limit
    "purge": """
        local ids = call('zrange', QUEUE, 0, ARGV[3] - 1)
        for _, id in ipairs(ids) do
          local _, attempt = header(message(id))
          unqueue(id); spend(id, attempt, ARGV[2])
          tell('cancelled', id, {by = ARGV[1]})
        end
        return #ids
    """,
    # ARGV run id. Back to the queue, with its deaths forgiven.
    "requeue_dead": """
        if call('zrem', prefix .. 'dead', ARGV[1]) == 0 then return 0 end
        call('hdel', run(ARGV[1]), 'deaths', 'cancel', 'met', 'met_at')
        wait(ARGV[1], now, now)
        tell('requeued', ARGV[1], {})
        return 1
    """,
    # ARGV run ids. Reports those of which nothing is here.
    "report_lost": """
        local n = 0
        for _, id in ipairs(ARGV) do
          if call('exists', run(id)) == 0 and call('hexists', HELD, id) == 0 then
            tell('lost', id, {})
            n = n + 1
          end
        end
        return n
    """,
    # ARGV run id
    "discard_dead": """
        if call('zrem', prefix .. 'dead', ARGV[1]) == 0 then return 0 end
        forget(ARGV[1], true)
        return 1
    """,
    # ARGV run id, revocation, ttl. It expires where there is no run that would take it along at its end.
    "revoke": """
        call('set', prefix .. 'kv:r:' .. ARGV[1], ARGV[2])
        if call('exists', run(ARGV[1])) == 0 then call('expire', prefix .. 'kv:r:' .. ARGV[1], ARGV[3]) end
    """,
    # ARGV ids. Removes revocations that do not expire, of runs that are gone. Returns how many these were.
    "forget_revocations": """
        local n = 0
        for _, id in ipairs(ARGV) do
          local key = prefix .. 'kv:r:' .. id
          if call('ttl', key) == -1 and call('exists', run(id)) == 0 then n = n + call('del', key) end
        end
        return n
    """,
    # ARGV name, owner, consumer, worker, seconds or '', lease. A lock lives as long as its consumer beats, or its time.
    "lock": """
        local raw = call('hget', prefix .. 'locks', ARGV[1])
        local lock = raw and lock_of(raw)
        if lock then
          local beat = lock[2] ~= '' and call('zscore', prefix .. 'beat_at', lock[2])
          local over = lock[4] ~= '' and now > tonumber(lock[4])
          local gone = lock[2] ~= '' and (not beat or now - tonumber(beat) > tonumber(ARGV[6]))
          if not over and not gone then return 0 end
        end
        call('zadd', prefix .. 'beat_at', 'XX', now, ARGV[3])
        local ends = ARGV[5] ~= '' and string.format('%.6f', now + ARGV[5]) or ''
        call('hset', prefix .. 'locks', ARGV[1], cjson.encode({ARGV[2], ARGV[3], ARGV[4], ends}))
        return 1
    """,
    # ARGV name, owner or '' for whoever holds it
    "unlock": """
        local raw = call('hget', prefix .. 'locks', ARGV[1])
        local lock = raw and lock_of(raw)
        if not raw or (ARGV[2] ~= '' and (not lock or lock[1] ~= ARGV[2])) then return 0 end
        return call('hdel', prefix .. 'locks', ARGV[1])
    """,
}

#: The commonest steps once more, for nothing but the commonest case of each. The library costs a script more than all
#: that it does there: each function a microsecond, for being defined.
QUICK = {
    # ARGV whether all are new for certain, priority, whether they are told, [run id, message]…, of runs that are to
    # begin at once. 0, and nothing stored, where one was seen or revoked before: that is for `apply`. 1,000 at most:
    # what one call hands to another goes over a stack of 8,000 places.
    "quick_post": """
        local call, prefix, priority, told = redis.call, KEYS[1], tonumber(ARGV[2]), ARGV[3] == '1'
        local run, events = prefix .. 'run:', prefix .. 'events'
        if ARGV[1] == '0' then
          local seen = {}
          for i = 4, #ARGV, 2 do
            for _, kind in ipairs({'run:', 'spent:', 'kv:', 'kv:r:'}) do seen[#seen + 1] = prefix .. kind .. ARGV[i] end
          end
          if call('exists', unpack(seen)) > 0 then return 0 end
        end
        local clock, format, places = call('time'), string.format, {}
        local second, micros = tonumber(clock[1]), tonumber(clock[2])
        for i = 4, #ARGV, 2 do
          local id, data = ARGV[i], ARGV[i + 1]
          -- A microsecond apart, so that what comes in together keeps its order.
          micros = micros + 1
          if micros == 1e6 then second, micros = second + 1, 0 end
          local place = format('%d.%06d', second, micros)
          call('hset', run .. id, 'message', data)
          if priority ~= 0 then
            call('zadd', prefix .. 'since', place, id); call('hset', run .. id, 'since', place)
            place = format('%.6f', second + micros / 1e6 - PRIORITY * priority)
          end
          places[i - 3], places[i - 2] = place, id
          if told then call('xadd', events, '*', 'e', data) end
        end
        call('zadd', prefix .. 'queue', unpack(places))
        local bell = prefix .. 'bell'
        for _ = call('llen', bell), math.min(63, #places / 2 - 1) do call('lpush', bell, '1') end
        return 1
    """.replace("PRIORITY", str(PRIORITY_SECONDS)),
    # ARGV consumer, worker, [run id, delivery, ttl, its result, the line of its end] of the run before.
    # As `turn` where nothing is limited; `paused`, and nothing taken, where something is paused or put off.
    "quick_turn": """
        local call, prefix, consumer, id = redis.call, KEYS[1], ARGV[1], ARGV[3]
        local HELD, settled = prefix .. 'held', -1
        if id then
          local held, mine = call('hget', HELD, id), consumer .. ' ' .. ARGV[4] .. ' '
          if held and string.sub(held, 1, #mine) == mine then
            local mark = string.sub(held, #mine + 1, #mine + 1)
            if mark == 'c' or mark == 'C' then return {-2, call('hget', prefix .. 'run:' .. id, 'cancel') or '?'} end
            settled = 1
            call('hdel', HELD, id)
            call('set', prefix .. 'kv:' .. id, ARGV[6], 'EX', ARGV[5])
            call('xadd', prefix .. 'events', '*', 'e', ARGV[7])
            local unique = mark == 'u' and call('hget', prefix .. 'run:' .. id, 'unique')
            if unique and call('hget', prefix .. 'unique', unique) == id then
              call('hdel', prefix .. 'unique', unique)
            end
            -- The run itself is one that is gone; where there were more, somebody may wait for the result.
            if call('del', prefix .. 'run:' .. id, prefix .. 'kv:r:' .. id, prefix .. 'waits:' .. id) > 1 then
              call('lpush', prefix .. 'done:' .. id, '1'); call('expire', prefix .. 'done:' .. id, 60)
            end
          else
            settled = 0
          end
        end
        if call('exists', prefix .. 'pause', prefix .. 'missing') > 0 then return {settled, 'paused'} end
        local popped = call('zpopmin', prefix .. 'queue')
        local next, score = popped[1], popped[2]
        if not next then return {settled} end
        local known = call('hmget', prefix .. 'run:' .. next, 'message', 'deliveries', 'since', 'unique')
        local data, delivery, since, clock = known[1] or '', (tonumber(known[2]) or 0) + 1, known[3], call('time')
        if since then call('zrem', prefix .. 'since', next); call('hdel', prefix .. 'run:' .. next, 'since') end
        local task, attempt = string.match(data, '^%S+ run (%S+) (%d+) %S+ ')
        call('hset', HELD, next, string.format('%s %d %s %s %s %s.%06d %s %s %s', consumer, delivery,
             known[4] and 'u' or '-', attempt or 1, ARGV[2], clock[1], clock[2], score, since or score,
             task and string.match(task, '[^.]*$') or '?'))
        local revoked = task and call('exists', prefix .. 'kv:r:' .. next, prefix .. 'kv:rt:' .. task) or 0
        return {settled, next, delivery, data, revoked}
    """,
}

SOURCE = {step: LIBRARY + body for step, body in SCRIPTS.items()} | QUICK
