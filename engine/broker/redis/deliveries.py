"""Deliveries on Redis: claimed, held, settled or released, with one script per step."""

import json
import re
from collections.abc import Collection

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
FINAL = re.compile(rb"\S+ value \S+ [1-9]")


class RedisDeliveries:
    known_tasks: Collection[str] = ()

    def __init__(self, client: RedisClient, result_ttl: int, read_timeout: float) -> None:
        self.client, self.result_ttl, self.read_timeout = client, result_ttl, read_timeout

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
        if settled == CANCELLED:
            raise CancelRequested(claimed[0].decode())
        if not claimed:
            return TurnResult(bool(settled), None)
        run_id, delivery, data, revoked = claimed
        return TurnResult(bool(settled), Delivery(run_id.decode(), delivery, data, bool(revoked)))

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
        is_simple = key == claimed.run_id and FINAL.match(result)
        return (key, claimed.delivery, self.result_ttl, result, event) if is_simple else None

    def encode(self, finished: FinishedRun) -> tuple[Word, ...]:
        """Return run id, delivery, attempt, TTL, the cancel flag, and the effects."""
        claimed, header = finished.claimed, parse_header(finished.claimed.data)
        attempt, effects = header.attempt if header else 0, encode_effects(finished.effects, self.result_ttl)
        return claimed.run_id, claimed.delivery, attempt, self.result_ttl, int(finished.is_cancel), *effects

    def settle(self, consumer: str, finished: FinishedRun) -> bool:
        settled, *by = self.client.run_script("settle", consumer, *self.encode(finished))
        if settled == CANCELLED:
            raise CancelRequested(by[0].decode())
        return bool(settled)

    def wait_for_work(self) -> None:
        with self.client.translate_errors() as redis:
            redis.blpop([self.client.prefix + "bell"], timeout=self.read_timeout)

    def dead_letter(self, consumer: str, claimed: Delivery, reason: str) -> None:
        self.client.run_script("dead_letter", claimed.run_id, claimed.delivery, reason)

    def defer(self, consumer: str, claimed: Delivery, missing: MissingTask, grace: float) -> str:
        met = json.dumps([missing.task, missing.consumer, missing.consumer_id, missing.version])
        event = (missing.reason, missing.version)
        state = self.client.run_script(
            "defer", consumer, claimed.run_id, claimed.delivery, missing.task, met, *event, grace
        )
        return str(state.decode())

    def release(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        run_id, delivery = (only.run_id, only.delivery) if only else ("", 0)
        args = (consumer, worker or "", reason, max_deliveries, int(counts), run_id, delivery)
        return int(self.client.run_script("release", *args))

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        return [consumer.decode() for consumer in self.client.run_script("reap", lease, max_deliveries)]

    def held(self) -> list[HeldMessage]:
        entries = self.client.read_hash("held")
        return parse_held(self.client.queue, [(run_id, held_fields(entry)) for run_id, entry in entries])

    def cancelled(self) -> dict[str, str]:
        ids = [run_id for run_id, _ in self.client.read_hash("held")]
        requesters = zip(ids, self.client.read_runs(ids, "cancel"), strict=True)
        return {run_id: decode(by) for run_id, by in requesters if by}


def held_fields(entry: bytes) -> list[str]:
    """Return task, consumer, worker, held at, delivery, attempt. Empty for a malformed entry."""
    words = decode(entry).split(" ", 8)
    return [words[place] for place in (8, 0, 4, 5, 1, 3)] if len(words) == 9 else []
