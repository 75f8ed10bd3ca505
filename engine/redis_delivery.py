"""Delivery on Redis 6.2+ or Valkey: take, hold, settle. The same promises as `sqlite_delivery`, one script a step."""

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from engine.delivery import DROPPED, Beat, Done, Effects, Held, Taken, Turn, id_of
from engine.redis_values import RedisValues


class RedisDelivery(RedisValues):
    """Where a queue's messages, results and events are kept."""

    blocking = True

    # --- delivery --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.apply(Effects().enqueue(id_of(data), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.apply(Effects().enqueue(id_of(data), data, None, ts))

    def turn(self, consumer: str, worker: str, look_first: bool, limits: str, done: Done | None = None) -> Turn:
        """Settle the run before, if there is one, and take the next message, in one round trip.

        With `look_first`, what this worker holds already comes first. `limits`: JSON of task → [starts, seconds].
        """
        words = () if done is None else (*self.words(done), *self.flat(done.effects))
        settled, *taken = self.run("turn", consumer, worker, int(look_first), limits, *words)
        return Turn(bool(settled), Taken(taken[0].decode(), taken[1], taken[2], bool(taken[3])) if taken else None)

    def words(self, done: Done) -> tuple[Any, ...]:
        return done.taken.run_id, done.taken.delivery, int(done.failed), self.result_ttl

    def settle(self, consumer: str, done: Done) -> bool:
        """Let go of what was taken and store what follows from it. False, and nothing stored, when it is not held."""
        return bool(self.run("settle", consumer, *self.words(done), *self.flat(done.effects)))

    def wait_for_work(self) -> None:
        """Return when something was enqueued, or after the read timeout."""
        with self.reaching() as redis:
            redis.blpop([self.prefix + "bell"], timeout=self.read_timeout)

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
        words: dict[bytes, bytes] = self.ask("HGETALL", key)
        return [(name.decode(), value) for name, value in words.items()]

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

    def cancel(self, run_id: str, by: str) -> str:
        """`removed` what waits or is scheduled, or `running`: marked for its consumer to interrupt; or `unknown`."""
        return str(self.run("cancel", run_id, by, self.result_ttl).decode())

    def reopen(self, run_id: str) -> None:
        """Forget how a run ended: its result, and that its attempts are spent."""
        with self.reaching() as redis:
            redis.delete(f"{self.prefix}kv:{run_id}", f"{self.prefix}done:{run_id}", f"{self.prefix}spent:{run_id}")

    def cancelling(self) -> dict[str, str]:
        """The running runs that are to be cancelled, and by whom."""
        return {run_id: by.decode() for run_id, by in self.pairs("cancel")}

    def purge(self, by: str, limit: int = 1000) -> int:
        """Cancel the first `limit` that wait. Returns how many did."""
        return int(self.run("purge", by, self.result_ttl, limit))

    def dead(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        """The messages that were given up, newest first."""
        ids = self.ask("ZREVRANGE", "dead", 0, limit - 1)
        return [(run_id.decode(), self.message(run_id.decode()) or b"") for run_id in ids]

    def requeue_dead(self, run_id: str) -> bool:
        return bool(self.run("requeue_dead", run_id))

    def discard_dead(self, run_id: str) -> bool:
        return bool(self.run("discard_dead", run_id))

    def lock(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        """Take a lock that dies with its consumer or worker, and after `seconds` where they are given."""
        return bool(self.run("lock", name, owner, consumer, worker, seconds or "", lease))

    def unlock(self, name: str, owner: str = "") -> bool:
        """Let go of a lock; without an owner, whoever's it is."""
        return bool(self.run("unlock", name, owner))

    def locks(self) -> dict[str, tuple[str, str, str]]:
        """Name → owner, consumer, worker."""
        return {name: tuple(json.loads(raw)[:3]) for name, raw in self.pairs("locks")}

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
        if not (identity := self.ask("GET", "stream")):
            self.ask("SET", "stream", uuid4().hex, "NX")
            identity = self.ask("GET", "stream")
        return f"{self.name}:{identity.decode()}"

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
        oldest = self.ask("ZRANGE", "since", 0, 0)
        return (oldest and float(self.ask("ZSCORE", "since", oldest[0]) or 0)) or None

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
