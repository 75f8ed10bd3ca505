"""Delivery on Redis 6.2+ or Valkey: take, hold, settle. Each step is one script, so it happens whole or not at all.

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

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Any
from uuid import uuid4

from huey.constants import EmptyData
from huey.storage import BaseStorage
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as Silent
from redis.retry import Retry

from engine.delivery import DROPPED, PRIORITY_SECONDS, Beat, BrokerAway, Effects, Held, Taken

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


class RedisDelivery(BaseStorage):
    """Where a queue's messages, results and events are kept."""

    blocking = True

    def __init__(self, name: str, url: str, result_ttl: int, read_timeout: float = 1.0) -> None:
        super().__init__(name)
        self.result_ttl, self.read_timeout = result_ttl, read_timeout
        # No retries by the client: a step that was answered by silence may have been taken. Callers that can repeat do.
        self.redis = Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, health_check_interval=30, retry=Retry(NoBackoff(), 0)
        )
        self.prefix = f"dewey:{{{name}}}:"
        self.scripts = {step: self.redis.register_script(LIBRARY + body) for step, body in SCRIPTS.items()}

    # --- the server ------------------------------------------------------------------------------------------

    @contextmanager
    def reaching(self) -> Iterator[Redis]:
        try:
            yield self.redis
        except (Unreachable, Silent, ReadOnlyError, OutOfMemoryError) as error:
            raise BrokerAway(f"Redis: {error}") from error

    def run(self, step: str, *args: Any) -> Any:
        with self.reaching():
            return self.scripts[step](keys=[self.prefix], args=args)

    def ask(self, command: str, key: str, *args: Any) -> Any:
        with self.reaching() as redis:
            return redis.execute_command(command, self.prefix + key, *args)

    def close(self) -> bool:
        self.redis.connection_pool.disconnect()
        return True

    # --- delivery --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.apply(Effects().enqueue(str(uuid4()), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.apply(Effects().schedule(str(uuid4()), data, None, ts))

    def apply(self, effects: Effects) -> None:
        self.run("apply", *self.flat(effects))

    def flat(self, effects: Effects) -> list[Any]:
        messages = [(run_id, data, priority or 0, due or "") for run_id, data, priority, due in effects.messages]
        results = [(key, data, self.result_ttl) for key, data in effects.results]
        events = [(event,) for event in effects.events]
        return [
            one for part in (messages, results, events) for one in (len(part), *(word for row in part for word in row))
        ]

    def take(self, consumer: str, worker: str, look_first: bool) -> Taken | None:
        """The next message, now held by `worker`. With `look_first`, what it holds already comes first."""
        found = self.run("take", consumer, worker, int(look_first))
        return found and Taken(found[0].decode(), int(found[1]), found[2])

    def wait_for_work(self) -> None:
        """Return when something was enqueued, or after the read timeout."""
        with self.reaching() as redis:
            redis.blpop([self.prefix + "bell"], timeout=self.read_timeout)

    def settle(self, consumer: str, taken: Taken, effects: Effects, failed: bool) -> bool:
        """Let go of what was taken and store what follows from it. False, and nothing stored, when it is not held."""
        words = (consumer, taken.run_id, taken.delivery, int(failed))
        return bool(self.run("settle", *words, *self.flat(effects)))

    def bury(self, consumer: str, taken: Taken, reason: str) -> None:
        """Keep a message that cannot be run, with its reason, where it blocks nothing."""
        self.run("bury", taken.run_id, taken.delivery, reason)

    def give_back(
        self, consumer: str, worker: str | None, reason: str, max_deliveries: int, counts: bool = True
    ) -> int:
        """Return what a worker (None: all of the consumer's) held to where it stood in the queue.

        A delivery `counts` when the worker died of it; one too many makes the message dead.
        """
        return int(self.run("give_back", consumer, worker or "", reason, max_deliveries, int(counts)))

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        """Give back what consumers hold that have been silent for a lease. Returns their ids."""
        return [consumer.decode() for consumer in self.run("reap", lease, max_deliveries)]

    def move_due(self, now: float, limit: int = 500) -> int:
        """Schedule → queue, in one step. Returns how many moved."""
        return int(self.run("move_due", now, limit))

    def tick(self, task: str, minute: int, effects: Effects) -> bool:
        """Let the tick of this minute in, once: store its effects unless this minute or a later one was recorded."""
        return bool(self.run("tick", task, minute, *self.flat(effects)))

    def last_ticks(self) -> dict[str, int]:
        return {task: int(minute) for task, minute in self.pairs("ticks")}

    def pairs(self, key: str) -> list[tuple[str, bytes]]:
        with self.reaching() as redis:
            return [(name.decode(), value) for name, value in redis.hgetall(self.prefix + key).items()]

    # --- consumers, pauses, events ---------------------------------------------------------------------------

    def beat(self, consumer: str, info: dict[str, Any]) -> None:
        self.run("beat", consumer, json.dumps(info))

    def forget(self, consumer: str) -> None:
        self.run("forget", consumer)

    def beats(self) -> list[Beat]:
        with self.reaching() as redis:
            pipe = redis.pipeline(transaction=False)
            for key in ("beats", "processed", "failed"):
                pipe.hgetall(self.prefix + key)
            pipe.zrange(self.prefix + "beat_at", 0, -1, withscores=True)
            infos, processed, failed, times = pipe.execute()
        return [
            Beat(one.decode(), at, json.loads(infos[one]), int(processed.get(one, 0)), int(failed.get(one, 0)))
            for one, at in times
            if one in infos
        ]

    def held(self) -> list[Held]:
        rows = [(run_id, json.loads(raw)) for run_id, raw in self.pairs("held")]
        return [Held(run_id, h[6], h[0], h[1], float(h[2]), int(h[3])) for run_id, h in rows]

    def message(self, run_id: str) -> bytes | None:
        data: bytes | None = self.ask("HGET", "message", run_id)
        return data

    def pause(self, target: str, info: dict[str, Any]) -> None:
        self.ask("HSET", "pause", target, json.dumps(info))

    def resume(self, target: str) -> bool:
        resumed = bool(self.ask("HDEL", "pause", target))
        self.ask("LPUSH", "bell", "1")
        return resumed

    def pauses(self) -> dict[str, dict[str, Any]]:
        return {target: json.loads(info) for target, info in self.pairs("pause")}

    def stream(self) -> str:
        """The name of this stream of events, new for each data set."""
        self.ask("SET", "stream", uuid4().hex, "NX")
        return f"{self.name}:{self.ask('GET', 'stream').decode()}"

    def events(self, after: int, limit: int) -> list[tuple[int, str]]:
        rows = self.ask("XRANGE", "events", f"{after + 1}-0", "+", "COUNT", limit)
        return [(int(seq.partition(b"-")[0]), fields[b"e"].decode()) for seq, fields in rows]

    def wait_for_events(self, after: int, seconds: float) -> None:
        with self.reaching() as redis:
            redis.xread({self.prefix + "events": f"{after}-0"}, count=1, block=int(seconds * 1000))

    def trim(self, upto: int) -> None:
        """Remove the events that have been written down."""
        self.ask("XTRIM", "events", "MINID", f"{upto + 1}-0")

    def bound(self, most: int) -> None:
        """Drop the oldest events beyond `most`, and count them, while they cannot be written down."""
        if dropped := self.ask("XTRIM", "events", "MAXLEN", most):
            self.incr(DROPPED, dropped)

    # --- what Huey asks of a storage -------------------------------------------------------------------------

    def queue_size(self) -> int:
        return int(self.ask("ZCARD", "queue"))

    def oldest_waiting(self) -> float | None:
        """Unix time at which the oldest waiting message came in, or fell due."""
        with self.reaching() as redis:
            oldest = redis.zrange(self.prefix + "since", 0, 0, withscores=True)
        return oldest[0][1] if oldest else None

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("queue", limit)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("schedule", limit)

    def items(self, key: str, limit: int | None) -> list[bytes]:
        ids = self.ask("ZRANGE", key, 0, -1 if limit is None else limit - 1)
        return [data for data in self.ask("HMGET", "message", *ids) if data] if ids else []

    def schedule_size(self) -> int:
        return int(self.ask("ZCARD", "schedule"))

    def flush_queue(self) -> None:
        self.flush("queue", "since")

    def flush_schedule(self) -> None:
        self.flush("schedule", "priority")

    def flush(self, key: str, beside: str) -> None:
        if ids := self.ask("ZRANGE", key, 0, -1):
            self.ask("HDEL", "message", *ids)
        self.ask("DEL", key)
        self.ask("DEL", beside)

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        if is_result:
            self.apply(Effects().result(key, value))
        else:
            self.ask("SET", f"kv:{key}", value)

    def peek_data(self, key: str) -> Any:
        value = self.ask("GET", f"kv:{key}")
        return EmptyData if value is None else value

    #: A result stays for its whole life, however often it is read.
    pop_data = peek_data

    def peek_many(self, keys: list[str]) -> dict[str, bytes]:
        with self.reaching() as redis:
            values = redis.mget([f"{self.prefix}kv:{key}" for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def has_data_for_key(self, key: str) -> bool:
        return bool(self.ask("EXISTS", f"kv:{key}"))

    def delete_data(self, key: str) -> bool:
        return bool(self.ask("DEL", f"kv:{key}"))

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        life = ("PX", int(ttl * 1000)) if ttl else ()
        return bool(self.ask("SET", f"kv:{key}", value, "NX", *life))

    def remove_expired(self) -> int:
        """Nothing to do: the server removes what has expired."""
        return 0

    def wait_result(
        self, key: str, timeout: float | None = None, backoff: float = 1.15, max_delay: float = 1.0
    ) -> bool:
        deadline = None if timeout is None else monotonic() + timeout
        while not self.has_data_for_key(key):
            left = 1.0 if deadline is None else min(1.0, deadline - monotonic())
            if left <= 0:
                return False
            with self.reaching() as redis:
                if redis.blpop([f"{self.prefix}done:{key}"], timeout=max(left, 0.01)):
                    # Put back for whoever waits beside us.
                    redis.lpush(f"{self.prefix}done:{key}", "1")
        return True

    def incr(self, key: str, amount: int = 1) -> int:
        return int(self.ask("INCRBY", f"counter:{key}", amount))

    def delete_counter(self, key: str) -> None:
        self.ask("DEL", f"counter:{key}")

    def result_items(self) -> dict[str, bytes]:
        items = {key: self.peek_data(key) for key in self.stored("kv:")}
        return {key: value for key, value in items.items() if value is not EmptyData}

    def result_store_size(self) -> int:
        return len(self.stored("kv:"))

    def stored(self, kind: str) -> list[str]:
        with self.reaching() as redis:
            prefix = self.prefix + kind
            return [key.decode().removeprefix(prefix) for key in redis.scan_iter(match=f"{prefix}*", count=1000)]

    def flush_results(self) -> None:
        for key in self.stored("kv:"):
            self.delete_data(key)

    def flush_counters(self) -> None:
        for key in self.stored("counter:"):
            self.delete_counter(key)
