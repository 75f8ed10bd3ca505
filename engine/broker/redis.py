"""Delivery on Redis 6.2+ or Valkey: take, hold, settle. The same promises as `sqlite_delivery`, one script a step."""

import itertools
import json
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from math import inf
from typing import Any
from uuid import uuid4

from engine.broker.deliveries import (
    AHEAD_LIMIT,
    Delivery,
    FinishedRun,
    HeldMessage,
    MessageLocation,
    MissingTask,
    TurnResult,
)
from engine.broker.effects import Effects
from engine.broker.entries import beats_of, held_of, locks_of, pauses_of, text, ticks_of
from engine.broker.heartbeats import Heartbeat
from engine.broker.message_header import message_id, parse_header
from engine.broker.redis_results import RedisValues
from engine.broker.storage import DROPPED_COUNTER
from engine.exceptions import CancelRequested

#: What a settling script answers, with who cancelled, when it has stored nothing because the run was cancelled.
CANCELLED = -2

#: Messages that are read at a time.
PART = 1000

#: How a result begins that ends an attempt.
FINAL = re.compile(rb"\S+ value \S+ [1-9]")


class RedisDelivery(RedisValues):
    """Where a queue's messages, results and events are kept."""

    blocking = True
    known: Collection[str] = ()  # the tasks that the code here has, dotted

    # --- delivery --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.apply(Effects().enqueue(message_id(data), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.apply(Effects().enqueue(message_id(data), data, None, ts))

    def turn(
        self, consumer: str, worker: str, look_first: bool, limits: str, done: FinishedRun | None = None
    ) -> TurnResult:
        """Settle the run before, if there is one, and take the next message, in one round trip.

        With `look_first`, what this worker holds already comes first. `limits`: JSON of task → [starts, seconds].
        Raises CancelRequested.
        """
        plain = () if done is None else self.plain_end(done)
        if look_first or limits or plain is None:
            words = () if done is None else (*self.words(done), *self.flat(done.effects))
            settled, *taken = self.run("turn", consumer, worker, int(look_first), limits or "{}", self.names(), *words)
        else:
            settled, *taken = self.run("quick_turn", consumer, worker, *plain)
            if taken == [b"paused"]:
                _, *taken = self.run("turn", consumer, worker, 0, "{}", self.names())
        if settled == CANCELLED:
            raise CancelRequested(taken[0].decode())
        return TurnResult(
            bool(settled), Delivery(taken[0].decode(), taken[1], taken[2], bool(taken[3])) if taken else None
        )

    def names(self) -> str:
        return json.dumps(list(self.known))

    def plain_end(self, done: FinishedRun) -> tuple[Any, ...] | None:
        """The words of a run that ends with its final result and a line of history; None where that is not all."""
        taken, effects = done.claimed, done.effects
        if done.is_cancel or effects.messages or len(effects.results) != 1 or len(effects.events) != 1:
            return None
        (key, result), (event,) = effects.results[0], effects.events
        plain = key == taken.run_id and FINAL.match(result)
        return (key, taken.delivery, self.result_ttl, result, event) if plain else None

    def words(self, done: FinishedRun) -> tuple[Any, ...]:
        head = parse_header(done.claimed.data)
        attempt = head.attempt if head else 0
        return done.claimed.run_id, done.claimed.delivery, attempt, self.result_ttl, int(done.is_cancel)

    def settle(self, consumer: str, done: FinishedRun) -> bool:
        """Let go of what was taken and store what follows from it. False, and nothing stored, when it is not held.

        Raises CancelRequested.
        """
        settled, *by = self.run("settle", consumer, *self.words(done), *self.flat(done.effects))
        if settled == CANCELLED:
            raise CancelRequested(by[0].decode())
        return bool(settled)

    def wait_for_work(self) -> None:
        """Return when something was enqueued, or after the read timeout."""
        with self.reaching() as redis:
            redis.blpop([self.prefix + "bell"], timeout=self.read_timeout)

    def bury(self, consumer: str, taken: Delivery, reason: str) -> None:
        """Keep a message that cannot be run, with its reason, where it blocks nothing."""
        self.run("bury", taken.run_id, taken.delivery, reason)

    def put_off(self, consumer: str, taken: Delivery, why: MissingTask, grace: float) -> str:
        """Let go of a message that names a task which is not known here. `scheduled`, or `dead` when the grace is over;
        empty when it is not held any more. A consumer that knows the task takes it from the schedule.
        """
        facts = json.dumps([why.task, why.consumer, why.consumer_id, why.version])
        words = (consumer, taken.run_id, taken.delivery, why.task, facts, why.reason, why.version, grace)
        return str(self.run("put_off", *words).decode())

    def put_off_for(self, run_id: str) -> MissingTask | None:
        """What a message is put off for; None where it is not."""
        with self.reaching() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.hmget(f"{self.prefix}run:{run_id}", "missing", "met", "met_at")
            pipe.zscore(self.prefix + "schedule", run_id)
            (missing, facts, met_at), until = pipe.execute()
        if not missing or until is None:
            return None
        return MissingTask(*json.loads(facts))._replace(met_at=float(met_at), until=until)

    def give_back(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        """Return what a worker (None: all of the consumer's) held to where it stood in the queue.

        A delivery `counts` when the worker died of it; one too many makes the message dead. With `only`, this delivery
        alone is returned, and the worker keeps its locks.
        """
        delivery = (only.run_id, only.delivery) if only else ("", 0)
        return int(self.run("give_back", consumer, worker or "", reason, max_deliveries, int(counts), *delivery))

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
        return ticks_of(self.name, self.pairs("ticks"))

    def pairs(self, key: str) -> list[tuple[str, bytes]]:
        words: dict[bytes, bytes] = self.ask("HGETALL", key)
        return [(text(name), value) for name, value in words.items()]

    # --- consumers, pauses, events ---------------------------------------------------------------------------

    def beat(self, consumer: str, info: dict[str, Any]) -> None:
        self.run("beat", consumer, json.dumps(info))

    def forget(self, consumer: str) -> None:
        self.run("forget", consumer)

    def beats(self) -> list[Heartbeat]:
        with self.reaching() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.hgetall(self.prefix + "beats")
            pipe.zrange(self.prefix + "beat_at", 0, -1, withscores=True)
            infos, times = pipe.execute()
        return beats_of(self.name, [(text(one), at, infos[one]) for one, at in times if one in infos])

    def held(self) -> list[HeldMessage]:
        return held_of(self.name, [(run_id, in_order(words)) for run_id, words in self.pairs("held")])

    def cancel(self, run_id: str, by: str) -> str:
        """`removed` what waits or is scheduled, or `running`: marked for its consumer to interrupt; or `unknown`."""
        return str(self.run("cancel", run_id, by, self.result_ttl).decode())

    def reopen(self, run_id: str) -> None:
        """Forget how a run ended: its result, and that its attempts are spent."""
        with self.reaching() as redis:
            redis.delete(*(f"{self.prefix}{kind}:{run_id}" for kind in ("kv", "waits", "done", "spent")))

    def report_lost(self, ids: Sequence[str]) -> int:
        """Report in the history those of these runs of which nothing is here. Returns how many."""
        return int(self.run("report_lost", *ids))

    def cancelling(self) -> dict[str, str]:
        """The running runs that are to be cancelled, and by whom."""
        ids = [run_id for run_id, _ in self.pairs("held")]
        return {run_id: text(by) for run_id, by in zip(ids, self.of_runs(ids, "cancel"), strict=True) if by}

    def of_runs(self, ids: Sequence[str], field: str) -> list[bytes | None]:
        """This field of each of these runs."""
        with self.reaching() as redis:
            pipe = redis.pipeline(transaction=False)
            for run_id in ids:
                pipe.hget(f"{self.prefix}run:{run_id}", field)
            return list(pipe.execute()) if ids else []

    def purge(self, by: str, limit: int = 1000) -> int:
        """Cancel the first `limit` that wait. Returns how many did."""
        return int(self.run("purge", by, self.result_ttl, limit))

    def dead(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        """The messages that were given up, newest first."""
        ids = map(text, self.ask("ZREVRANGE", "dead", 0, limit - 1))
        return [(run_id, self.message(run_id) or b"") for run_id in ids]

    def dead_ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        """The runs that were given up and when (Unix seconds), newest first, after the place `before` in this order."""
        key, top = self.prefix + "dead", "+inf" if before is None else repr(before[0])
        with self.reaching() as redis:
            ties = 0 if before is None else redis.zcount(key, top, top)
            rows: Any = redis.zrevrangebyscore(key, top, "-inf", 0, limit + ties, withscores=True)
        found = [(text(run_id), at) for run_id, at in rows]
        return [one for one in found if before is None or (one[1], one[0]) < before][:limit]

    def dead_size(self) -> int:
        return int(self.ask("ZCARD", "dead"))

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
        return locks_of(self.name, self.pairs("locks"))

    def message(self, run_id: str) -> bytes | None:
        data: bytes | None = self.ask("HGET", f"run:{run_id}", "message")
        return data

    def place(self, run_id: str) -> MessageLocation | None:
        """Where its message is; None where there is none."""
        with self.reaching() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.zrank(self.prefix + "queue", run_id)
            pipe.zscore(self.prefix + "schedule", run_id)
            pipe.hexists(self.prefix + "held", run_id)
            pipe.zscore(self.prefix + "dead", run_id)
            rank, due, held, dead = pipe.execute()
        if rank is not None:
            return MessageLocation("waiting", min(rank, AHEAD_LIMIT + 1))
        found = (("scheduled", due is not None), ("held", held), ("dead", dead is not None))
        return next((MessageLocation(state) for state, there in found if there), None)

    def pause(self, target: str, info: dict[str, Any]) -> None:
        self.ask("HSET", pause_key(target), target, json.dumps(info))

    def resume(self, target: str) -> bool:
        resumed = bool(self.ask("HDEL", pause_key(target), target))
        self.ask("LPUSH", "bell", "1")
        return resumed

    def pauses(self) -> dict[str, dict[str, Any]]:
        return pauses_of(self.name, (*self.pairs("pause"), *self.pairs("pause_schedule")))

    def stream(self) -> str:
        """The name of this stream of events, new for each data set."""
        if not (identity := self.ask("GET", "stream")):
            self.ask("SET", "stream", uuid4().hex, "NX")
            identity = self.ask("GET", "stream")
        return f"{self.name}:{identity.decode()}"

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next lines of history and their positions, as they are: whatever the bytes."""
        rows = self.ask("XRANGE", "events", f"({place_of(after)}", "+", "COUNT", limit)
        return [(position_of(place), fields.get(b"e", b"")) for place, fields in rows]

    def unread(self, after: int) -> int:
        """How many events there are: what was written down is removed at once."""
        return int(self.ask("XLEN", "events"))

    def wait_for_events(self, after: int, seconds: float) -> None:
        with self.reaching() as redis:
            redis.xread({self.prefix + "events": place_of(after)}, count=1, block=int(seconds * 1000))

    def trim(self, upto: int) -> None:
        """Remove the events that have been written down."""
        self.ask("XTRIM", "events", "MINID", place_of(upto + 1))

    def bound(self, most: int) -> None:
        """Drop the oldest events beyond `most`, and count them, while they cannot be written down."""
        if dropped := self.ask("XTRIM", "events", "MAXLEN", most):
            self.incr(DROPPED_COUNTER, dropped)

    # --- what Huey asks of a storage -------------------------------------------------------------------------

    def queue_size(self, most: int = -1) -> int:
        """How many wait; to count beyond `most` costs nothing here."""
        return int(self.ask("ZCARD", "queue"))

    def oldest_waiting(self) -> float | None:
        """Unix time at which the oldest waiting message came in, or fell due."""
        apart = self.ask("ZRANGE", "since", 0, 0, "WITHSCORES")
        times = [float(at) for _, at in apart]
        if self.ask("ZCARD", "since") < self.queue_size():
            times.append(self.first_in_its_place())
        return min(times, default=None)

    def first_in_its_place(self) -> float:
        """The place, which is the time it came in, of the first that no priority has moved from there."""
        for start in itertools.count(0, 1000):
            rows = self.ask("ZRANGE", "queue", start, start + 999, "WITHSCORES")
            if not rows:
                break
            apart = self.ask("ZMSCORE", "since", *(run_id for run_id, _ in rows))
            for (_, score), since in zip(rows, apart, strict=True):
                if since is None:
                    return float(score)
        return inf

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("queue", limit)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("schedule", limit)

    def items(self, key: str, limit: int | None) -> list[bytes]:
        ids = self.ask("ZRANGE", key, 0, -1 if limit is None else limit - 1)
        parts = (ids[start : start + PART] for start in range(0, len(ids), PART))
        found = (self.of_runs(list(map(text, part)), "message") for part in parts)
        return [data for part in found for data in part if data]

    def schedule_size(self) -> int:
        return int(self.ask("ZCARD", "schedule"))

    def flush_queue(self) -> None:
        self.flush("queue")
        self.ask("DEL", "since")

    def flush_schedule(self) -> None:
        self.flush("schedule")

    def flush(self, key: str) -> None:
        if ids := self.ask("ZRANGE", key, 0, -1):
            with self.reaching() as redis:
                redis.delete(*(f"{self.prefix}run:{run_id.decode()}" for run_id in ids))
        self.ask("DEL", key)


def in_order(words: bytes) -> list[Any]:
    """Of an entry of `held`: task, consumer, worker, held at, delivery, attempt; nothing where it is malformed."""
    parts = text(words).split(" ", 8)
    return [parts[place] for place in (8, 0, 4, 5, 1, 3)] if len(parts) == 9 else []


# A place in the stream is milliseconds and a number within them; a position is both in one number.


def pause_key(target: str) -> str:
    """Pauses of schedules lie apart: what hands out messages has no need of them."""
    return "pause_schedule" if target.startswith("schedule:") else "pause"


def place_of(position: int) -> str:
    return f"{position >> 20}-{position & 0xFFFFF}"


def position_of(place: bytes) -> int:
    milliseconds, _, number = place.partition(b"-")
    return int(milliseconds) << 20 | int(number)
