-- What most scripts begin with: the keys of a queue, the time, and how its entries are written.
--
-- KEYS[1] is the prefix `dewey:{<queue>}:`. All keys of a queue stand under it:
--
--   run:<id>   hash  message · since: time it was enqueued, where its place in the queue is another · deliveries: times
--                    it was claimed and came back · deaths: workers it took down · unique: its name · priority, while
--                    it is scheduled · cancel: by whom, while it runs · met, met_at: which consumer lacked which task,
--                    and when first · missing: that task, while it is deferred
--   queue      zset  run id → time it was enqueued − 60 s × priority; lowest first
--   since      zset  run id → time it was enqueued, of those whose place is another
--   schedule   zset  run id → when it is due
--   missing    set   of tasks, dotted, for which something is deferred
--   missing:<task>  zset  run id → its place in the queue, of what is in the schedule only to wait for this task
--   held       hash  run id → consumer, delivery, mark, attempt, worker, time, score, since, task: which worker runs it.
--                    The mark is u where the run is unique else -; c in its place, or C, once it is to be cancelled
--   dead       zset  run id → when it became a dead letter
--   spent:<id> the last attempt of a run that has ended without a result, for as long as one would be kept
--   unique     hash  name → run id
--   locks      hash  name → owner, consumer, worker, until
--   rate:<task>  zset of starts within the limit's time
--   pause      hash  target → info                    pause_schedule  hash  the same, for scheduled tasks
--   beats      hash  consumer → info                  beat_at  zset  consumer → time of its last heartbeat
--   ticks      hash  task → minute                    stream   the name of the stream of events
--   bell       list  pushed to by enqueuing; an idle worker blocks on it, since a script cannot block
--   events     stream of history
--   kv:<key>, counter:<key>     results, whose first words have the last attempt; revocations; counters
--   waits:<key>, done:<key>     a client waits for this result; the list that wakes it
--
-- Each call of the server costs a script more than anything it does by itself, so the common way has as few as it can.
-- Each function costs a microsecond for being defined, so a script names the libraries that it needs, and no more.

local prefix = KEYS[1]
local call, match = redis.call, string.match
local clock = call('time')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
-- As text: a number would be cut to 14 digits on its way.
local function timestamp() return string.format('%.6f', now) end
local QUEUE, SINCE, HELD, EVENTS = prefix .. 'queue', prefix .. 'since', prefix .. 'held', prefix .. 'events'

local function run(id) return prefix .. 'run:' .. id end
-- Returns the dotted task and the attempt of a message; nothing where it is no message of a run.
local function parse_header(data)
  local task, attempt = match(data or '', '^%S+ run (%S+) (%d+) %S+ ')
  return task, tonumber(attempt)
end
local function short_name(task) return task and (match(task, '^.*%.(.*)$') or task) or '?' end
