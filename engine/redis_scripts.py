"""The steps of delivery on Redis, one script each, so that each happens whole or not at all.

Keys of a queue, all under `dewey:{<queue>}:`

    queue      zset  run id → time it came in − 60 s × priority; lowest first
    since      zset  run id → time it came in, for the age of the oldest
    schedule   zset  run id → when it is due         priority  hash  run id → priority, until then
    message    hash  run id → the message
    held       hash  run id → consumer, worker, time, delivery, score: who runs it
    deliveries hash  run id → times handed out         deaths  hash  run id → workers it took down
    dead       zset  run id → when it was given up
    bell       list  rung by enqueuing; an idle worker blocks on it, since a script cannot block
    events     stream of history, numbered by `seq`
    kv:<key>, counter:<key>     results, revocations, locks; counters
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
local function ring()
  if call('llen', k'bell') < 64 then call('lpush', k'bell', '1') end
end
local function header(data)
  local task, attempt = string.match(data, '^%S+ %S+ (%S+) (%d+) ')
  return task or '?', tonumber(attempt or 1)
end
local function wait(id, score, since)
  call('zadd', k'queue', score, id); call('zadd', k'since', since, id); ring()
end
-- Effects from ARGV[i] on: number of messages, their id, data, priority, due; results: key, data, ttl; events.
local function store(i)
  for _ = 1, tonumber(ARGV[i]) do
    local id, data, priority, due = ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
    -- A run that is held stays as it is: a second message of its id changes nothing.
    if call('hexists', k'held', id) == 0 then
      call('hset', k'message', id, data)
      call('hdel', k'deaths', id); call('zrem', k'dead', id)
      call('zrem', k'queue', id); call('zrem', k'since', id); call('zrem', k'schedule', id)
      if due then
        call('zadd', k'schedule', due, id)
        if priority ~= 0 then call('hset', k'priority', id, priority) end
      else wait(id, now - PRIORITY * priority, now) end
    end
    i = i + 4
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do
    call('set', k'kv:' .. ARGV[i + 1], ARGV[i + 2], 'EX', ARGV[i + 3])
    local waiting = k'done:' .. ARGV[i + 1]
    call('lpush', waiting, '1'); call('expire', waiting, 60)
    i = i + 3
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do event(ARGV[i + 1]); i = i + 1 end
end
local function held(id)
  local raw = call('hget', k'held', id)
  return raw and cjson.decode(raw)
end
local function forget(id)
  if not (call('zscore', k'queue', id) or call('zscore', k'schedule', id)) then
    call('hdel', k'message', id); call('hdel', k'deliveries', id); call('hdel', k'deaths', id)
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
      local task = header(call('hget', k'message', id) or '')
      if dead then call('zadd', k'dead', now, id) else wait(id, h[5], h[6]) end
      tell('returned', id, {task = task, delivery = h[4], worker = h[2], error = reason, dead = dead, counts = counts})
      n = n + 1
    end
  end
  return n
end
""".replace("PRIORITY", str(PRIORITY_SECONDS))

SCRIPTS = {
    "apply": "store(1)",
    # ARGV consumer, worker, whether to look first into what this worker holds
    "take": """
        if ARGV[3] == '1' then
          local all = call('hgetall', k'held')
          for j = 1, #all, 2 do
            local h = cjson.decode(all[j + 1])
            if h[1] == ARGV[1] and h[2] == ARGV[2] then
              return {all[j], h[4], call('hget', k'message', all[j]) or ''}
            end
          end
        end
        local paused = {}
        for _, target in ipairs(call('hkeys', k'pause')) do paused[target] = true end
        if paused[''] then return false end
        local found, from = nil, 0
        while not found do
          local ids = call('zrange', k'queue', from, from + (next(paused) and 499 or 0))
          if #ids == 0 then return false end
          for _, id in ipairs(ids) do
            if not paused[header(call('hget', k'message', id) or '')] then found = id; break end
          end
          from = from + 500
        end
        local score, since = call('zscore', k'queue', found), call('zscore', k'since', found)
        call('zrem', k'queue', found); call('zrem', k'since', found)
        local data = call('hget', k'message', found) or ''
        local task, attempt = header(data)
        local delivery = call('hincrby', k'deliveries', found, 1)
        call('hset', k'held', found, cjson.encode({ARGV[1], ARGV[2], stamp, delivery, score, since or score, task}))
        local who = {task = task, delivery = delivery, attempt = attempt, consumer = ARGV[1], worker = ARGV[2]}
        tell('started', found, who)
        return {found, delivery, data}
    """,
    # ARGV consumer, run id, delivery, whether it failed, effects…
    "settle": """
        local h = held(ARGV[2])
        if not h or h[1] ~= ARGV[1] or h[4] ~= tonumber(ARGV[3]) then return 0 end
        call('hdel', k'held', ARGV[2])
        call('hincrby', k'processed', ARGV[1], 1)
        if ARGV[4] == '1' then call('hincrby', k'failed', ARGV[1], 1) end
        store(5)
        forget(ARGV[2])
        return 1
    """,
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
    # After an outage every beat is old: unless somebody reaped within a lease, wait a round.
    "reap": """
        local last = call('getset', k'reaped', now)
        if not last or now - tonumber(last) > tonumber(ARGV[1]) then return {} end
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
          call('zrem', k'schedule', ids[j])
          local priority = tonumber(call('hget', k'priority', ids[j]) or 0)
          call('hdel', k'priority', ids[j])
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
}
