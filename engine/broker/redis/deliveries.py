"""Deliveries on Redis: claimed, held, settled or released, with one script per step.

A script cannot sign. Where it decides about runs that it finds itself, the held entries are read first and an event is
signed for each possible outcome. The script then changes only entries that are still the same.
"""

import json
import re
import time
from collections.abc import Collection, Sequence

from engine.broker.deliveries import Delivery, FinishedRun, HeldMessage, MissingTask, TurnResult
from engine.broker.message_header import parse_header
from engine.broker.parsing import decode, parse_held
from engine.broker.redis.client import RedisClient
from engine.broker.redis.encoding import encode_effects
from engine.broker.redis.thread_connection import Word
from engine.exceptions import CancelRequested

#: Reply of a settling script, with the canceller, if the run was cancelled and nothing was stored.
CANCELLED = -2

#: The beginning of a result that ends an attempt.
FINAL = re.compile(rb"\S+ \S+ \S+ [1-9]")


class RedisDeliveries:
    known_tasks: Collection[str] = ()

    def __init__(self, client: RedisClient, result_ttl: int, read_timeout: float) -> None:
        self.client, self.result_ttl, self.read_timeout = client, result_ttl, read_timeout
        self.entries = client.entries

    # --- claiming and settling ---------------------------------------------------------------------------------

    def settle_and_claim(
        self, consumer: str, worker: str, look_first: bool, limits: str, finished: FinishedRun | None = None
    ) -> TurnResult:
        run_script = self.client.run_script
        simple = () if finished is None else self.simple_finish(finished)
        if look_first or limits or simple is None:
            args = () if finished is None else self.encode(finished)
            settled, *claimed = run_script(
                "settle_and_claim", consumer, worker, int(look_first), limits or "{}", self.known_tasks_json(), *args
            )
        else:
            settled, *claimed = run_script("quick_settle_and_claim", consumer, worker, *simple)
            if claimed == [b"paused"]:
                _, *claimed = run_script("settle_and_claim", consumer, worker, 0, "{}", self.known_tasks_json())
        if settled == CANCELLED and finished:
            raise CancelRequested(self.entries.canceller(finished.claimed.run_id, claimed[0]))
        if not claimed:
            return TurnResult(bool(settled), None)
        run_id, delivery, data, marks = claimed
        return TurnResult(bool(settled), Delivery(decode(run_id), delivery, data, is_marked=bool(marks)))

    def known_tasks_json(self) -> str:
        return json.dumps(list(self.known_tasks))

    def simple_finish(self, finished: FinishedRun) -> tuple[Word, ...] | None:
        """Return the script arguments of a run that ends with its final result and one event. None for any other
        effects.
        """
        claimed, effects = finished.claimed, finished.effects
        if finished.is_cancel or effects.messages or len(effects.results) != 1 or len(effects.events) != 1:
            return None
        (key, result), (event,) = effects.results[0], effects.events
        if key != claimed.run_id or not FINAL.match(result):
            return None
        return key, claimed.delivery, self.result_ttl, result, self.entries.sign_event(event)

    def encode(self, finished: FinishedRun) -> tuple[Word, ...]:
        """Return run id, delivery, attempt, TTL, the cancel flag, and the effects."""
        claimed, header = finished.claimed, parse_header(finished.claimed.data)
        attempt = header.attempt if header else 0
        effects = encode_effects(finished.effects, self.result_ttl, self.entries)
        return claimed.run_id, claimed.delivery, attempt, self.result_ttl, int(finished.is_cancel), *effects

    def settle(self, consumer: str, finished: FinishedRun) -> bool:
        settled, *line = self.client.run_script("settle", consumer, *self.encode(finished))
        if settled == CANCELLED:
            raise CancelRequested(self.entries.canceller(finished.claimed.run_id, line[0]))
        return bool(settled)

    def wait_for_work(self) -> None:
        with self.client.translate_errors() as redis:
            redis.blpop([self.client.prefix + "bell"], timeout=self.read_timeout)

    # --- messages that cannot be run ---------------------------------------------------------------------------

    def dead_letter(self, consumer: str, claimed: Delivery, reason: str) -> None:
        if held := self.held_delivery(claimed):
            event = self.entries.sign_event(held.event("dead", time.time(), reason))
            self.client.run_script("dead_letter", claimed.run_id, claimed.delivery, event)

    def defer(self, consumer: str, claimed: Delivery, missing: MissingTask, grace: float) -> str:
        if not (held := self.held_delivery(claimed)):
            return ""
        met = json.dumps([missing.task, missing.consumer, missing.consumer_id, missing.version])
        facts, now = {"version": missing.version, "unknown": True}, time.time()
        events = [
            self.entries.sign_event(held.event(kind, now, missing.reason, **facts)) for kind in ("put_off", "dead")
        ]
        state = self.client.run_script(
            "defer", consumer, claimed.run_id, claimed.delivery, missing.task, met, grace, *events
        )
        return str(state.decode())

    # --- releasing ---------------------------------------------------------------------------------------------

    def release(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        held = [run for run in self.held() if run.consumer == consumer and worker in (None, run.worker)]
        if only:
            held = [run for run in held if (run.run_id, run.delivery) == (only.run_id, only.delivery)]
        return self.release_each(held, consumer, worker or "", reason, max_deliveries, counts, keeps_locks=bool(only))

    def release_each(
        self,
        held: Sequence[HeldMessage],
        consumer: str,
        worker: str,
        reason: str,
        max_deliveries: int,
        counts: bool,
        keeps_locks: bool,
    ) -> int:
        now, sign = time.time(), self.entries.sign_event
        runs: list[Word] = []
        for run in held:
            events = [sign(run.event("returned", now, reason, dead=dead, counts=counts)) for dead in (False, True)]
            runs += [run.run_id, run.delivery, *events]
        args = (consumer, worker, max_deliveries, int(counts), int(keeps_locks))
        return int(self.client.run_script("release", *args, *runs))

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        # Read first: what a consumer claims after it was found to be stale is not released.
        entries = self.client.read_hash("held")
        held = parse_held(self.client.queue, [(run_id, held_fields(entry)) for run_id, entry in entries])
        is_patient, *stale = self.client.run_script("reap", lease)
        if is_patient:
            return []
        consumers = [decode(consumer) for consumer in stale]
        for consumer in consumers:
            runs = [run for run in held if run.consumer == consumer]
            self.release_each(runs, consumer, "", "the consumer died", max_deliveries, counts=True, keeps_locks=False)
        self.requeue_unreadable({run_id for run_id, _ in entries} - {run.run_id for run in held})
        return consumers

    def requeue_unreadable(self, ids: Collection[str]) -> None:
        """Requeue runs whose holder is unreadable."""
        if ids:
            self.client.run_script("requeue_unreadable", *self.entries.sign_events("requeued", ids))

    # --- what is held ------------------------------------------------------------------------------------------

    def held(self) -> list[HeldMessage]:
        entries = self.client.read_hash("held")
        return parse_held(self.client.queue, [(run_id, held_fields(entry)) for run_id, entry in entries])

    def held_delivery(self, claimed: Delivery) -> HeldMessage | None:
        entry = self.client.command("HGET", "held", claimed.run_id)
        rows = [(claimed.run_id, held_fields(entry))] if entry else []
        return next((run for run in parse_held(self.client.queue, rows) if run.delivery == claimed.delivery), None)

    def cancelled(self) -> dict[str, str]:
        ids = [run_id for run_id, _ in self.client.read_hash("held")]
        lines = zip(ids, self.client.read_runs(ids, "cancel"), strict=True)
        return {run_id: self.entries.canceller(run_id, line) for run_id, line in lines if line}


def held_fields(entry: bytes) -> list[str]:
    """Return task, consumer, worker, held at, delivery, attempt. Empty for a malformed entry."""
    words = decode(entry).split(" ", 8)
    return [words[place] for place in (8, 0, 4, 5, 1, 3)] if len(words) == 9 else []
