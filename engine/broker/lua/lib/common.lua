-- Shared by most scripts: the keys of a queue, the time, and the format of its entries.
--
-- KEYS[1] is the prefix `dewey:{<queue>}:` of all keys of a queue:
--
--   run:<id>   hash  message · since: enqueue time, if its place in the queue differs · deliveries: claims that came
--                    back · deaths: workers it took down · unique: its name · priority, while it is scheduled ·
--                    cancel: the event of its cancel, while it runs · met, met_at: the consumer that lacked its task, and since
--                    when · missing: that task, while it is deferred
--   queue      zset  run id → enqueue time − 60 s × priority; lowest first
--   since      zset  run id → enqueue time, if its place in the queue differs
--   schedule   zset  run id → due time
--   missing    set   dotted tasks of deferred runs
--   missing:<task>  zset  run id → its place in the queue, of runs deferred for this task
--   held       hash  run id → consumer, delivery, mark, attempt, worker, time, score, since, task. The mark is u for
--                    a unique run, else -. It becomes C or c when the run must be cancelled.
--   dead       zset  run id → time of death
--   spent:<id> the last attempt of a run that ended without a result, kept as long as a result
--   unique     hash  name → run id
--   locks      hash  name → owner, consumer, worker, until
--   rate:<task>  zset of starts within the limit's time
--   pause      hash  target → info                    pause_schedule  hash  the same, for schedules
--   beats      hash  consumer → info                  beat_at  zset  consumer → time of its last heartbeat
--   ticks      hash  task → minute                    stream   the name of the event stream
--   bell       list  pushed to by enqueue. An idle worker blocks on it, since a script cannot block
--   events     the event stream
--   kv:<key>, counter:<key>     results, whose first words contain the last attempt; revocations; counters
--   aside:<key>  a key that held a wrong type of value, for a week: see redis/wrong_types.py
--   waits:<key>, done:<key>     a client waits for this result; the list that wakes it
--
-- Calls to the server dominate a script's cost, so the common path makes as few as possible.
-- Defining a function costs a microsecond, so a script includes only the libraries that it needs.

local prefix = KEYS[1]
local call, match = redis.call, string.match
local clock = call('time')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
-- As text: a number would be cut to 14 digits.
local function timestamp() return string.format('%.6f', now) end
local QUEUE, SINCE, HELD, EVENTS = prefix .. 'queue', prefix .. 'since', prefix .. 'held', prefix .. 'events'

local function run(id) return prefix .. 'run:' .. id end
-- Returns a count of attempts or deliveries, nil for text that is no such number. A larger one would lose digits.
local function parse_count(text)
  return text and #text < 10 and match(text, '^%d+$') and tonumber(text)
end
-- Returns the dotted task and the attempt of a run's message, nil for anything else.
local function parse_header(data)
  local task, attempt = match(data or '', '^%S+ run (%S+) (%d+) %S+ ')
  attempt = parse_count(attempt)
  return attempt and task, attempt
end
local function short_name(task) return task and (match(task, '^.*%.(.*)$') or task) or '?' end
