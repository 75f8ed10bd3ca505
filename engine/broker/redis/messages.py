"""Messages on Redis, from enqueue to claim."""

import itertools
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from engine.broker.deliveries import AHEAD_LIMIT, MessageLocation, MissingTask
from engine.broker.effects import Effects
from engine.broker.parsing import decode, parse_missing_task
from engine.broker.redis.client import RedisClient
from engine.broker.redis.encoding import encode_batch, encode_effects, encode_messages, growing_batches, is_simple

#: Messages to read at a time.
READ_SIZE = 1000


class RedisMessages:
    def __init__(self, client: RedisClient, result_ttl: int) -> None:
        self.client, self.result_ttl, self.entries = client, result_ttl, client.entries

    def write(self, effects: Effects) -> list[str]:
        run_script = self.client.run_script
        if is_simple(effects) and all(run_script("quick_enqueue", *args) for args in encode_messages(effects.messages)):
            return [message.run_id for message in effects.messages]
        args = encode_effects(effects, self.result_ttl, self.entries)
        # The script ignores messages that are already stored.
        return [run_id.decode() for run_id in run_script("write_effects", *args)]

    def enqueue_batch(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        """Store the messages in parts, as the server serves no other client during a script."""
        calls = (
            encode_batch(batch, priority, is_known_new=True, is_new_run=True) for batch in growing_batches(messages)
        )
        self.client.run_script_for_each("quick_enqueue", calls)

    def enqueue_due(self, now: float, limit: int = 500) -> int:
        return int(self.client.run_script("enqueue_due", now, limit))

    def get(self, run_id: str) -> bytes | None:
        data: bytes | None = self.client.command("HGET", f"run:{run_id}", "message")
        return data

    def waiting_ids(self, limit: int) -> list[str]:
        return [decode(run_id) for run_id in self.client.command("ZRANGE", "queue", 0, limit - 1)]

    def ended_attempt(self, run_id: str) -> int:
        with self.client.translate_errors() as redis:
            values: Any = redis.mget(f"{self.client.prefix}spent:{run_id}", f"{self.client.prefix}kv:{run_id}")
        spent, result = values
        words = (spent or b"").split() + (result or b"").split(b" ", 4)[3:4]
        return max((int(word) for word in words if word.isdigit()), default=0)

    def locate(self, run_id: str) -> MessageLocation | None:
        prefix = self.client.prefix
        with self.client.translate_errors() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.zrank(prefix + "queue", run_id)
            pipe.zscore(prefix + "schedule", run_id)
            pipe.hexists(prefix + "held", run_id)
            pipe.zscore(prefix + "dead", run_id)
            rank, due, is_held, died_at = pipe.execute()
        if rank is not None:
            return MessageLocation("waiting", min(rank, AHEAD_LIMIT + 1))
        states = (("scheduled", due is not None), ("held", is_held), ("dead", died_at is not None))
        return next((MessageLocation(state) for state, is_there in states if is_there), None)

    def missing_task(self, run_id: str) -> MissingTask | None:
        prefix = self.client.prefix
        with self.client.translate_errors() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.hmget(f"{prefix}run:{run_id}", "missing", "met", "met_at")
            pipe.zscore(prefix + "schedule", run_id)
            (missing, met, met_at), until = pipe.execute()
        if not missing or until is None:
            return None
        return parse_missing_task(self.client.queue, run_id, met, met_at, until)

    # --- what waits and is scheduled -------------------------------------------------------------------------

    def count_waiting(self, limit: int = -1) -> int:
        """Return the length. The limit does not matter, as Redis need not count."""
        return int(self.client.command("ZCARD", "queue"))

    def count_scheduled(self) -> int:
        return int(self.client.command("ZCARD", "schedule"))

    def oldest_waiting(self) -> float | None:
        rows = self.client.command("ZRANGE", "since", 0, 0, "WITHSCORES")
        times = [float(since) for _, since in rows]
        if self.client.command("ZCARD", "since") < self.count_waiting():
            times.append(self.oldest_without_priority())
        return min(times, default=None)

    def oldest_without_priority(self) -> float:
        """Return the score of the first run whose priority has not moved it, which is its enqueue time."""
        for start in itertools.count(0, 1000):
            rows = self.client.command("ZRANGE", "queue", start, start + 999, "WITHSCORES")
            if not rows:
                break
            moved = self.client.command("ZMSCORE", "since", *(run_id for run_id, _ in rows))
            for (_, score), since in zip(rows, moved, strict=True):
                if since is None:
                    return float(score)
        return inf

    def waiting(self, limit: int | None = None) -> list[bytes]:
        return self.read("queue", limit)

    def scheduled(self, limit: int | None = None) -> list[bytes]:
        return self.read("schedule", limit)

    def read(self, key: str, limit: int | None) -> list[bytes]:
        ids = [decode(run_id) for run_id in self.client.command("ZRANGE", key, 0, -1 if limit is None else limit - 1)]
        parts = (ids[start : start + READ_SIZE] for start in range(0, len(ids), READ_SIZE))
        return [data for part in parts for data in self.client.read_runs(part, "message") if data]

    def delete_waiting(self) -> None:
        self.delete("queue")
        self.client.command("DEL", "since")

    def delete_scheduled(self) -> None:
        self.delete("schedule")

    def delete(self, key: str) -> None:
        if ids := self.client.command("ZRANGE", key, 0, -1):
            with self.client.translate_errors() as redis:
                redis.delete(*(f"{self.client.prefix}run:{run_id.decode()}" for run_id in ids))
        self.client.command("DEL", key)

    # --- commands --------------------------------------------------------------------------------------------

    def cancel(self, run_id: str, by: str) -> str:
        event = self.entries.sign_events("cancelled", [run_id], by=by)[1]
        return str(self.client.run_script("cancel", run_id, event, self.result_ttl).decode())

    def purge(self, by: str, limit: int = 1000) -> int:
        ids = self.waiting_ids(limit)
        return int(self.client.run_script("purge", self.result_ttl, *self.entries.sign_events("cancelled", ids, by=by)))

    def clear_finished(self, run_id: str) -> None:
        with self.client.translate_errors() as redis:
            redis.delete(*(f"{self.client.prefix}{kind}:{run_id}" for kind in ("kv", "waits", "done", "spent")))

    def report_lost(self, ids: Sequence[str]) -> int:
        return int(self.client.run_script("report_lost", *self.entries.sign_events("lost", ids)))
