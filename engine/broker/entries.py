"""What stands at the broker beside messages, read with care: other versions of the code write there, and foreign hands.

A malformed entry is logged once and left out. A pause that cannot be read still holds: nobody may start by accident
what was stopped on purpose.
"""

import json
import logging
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from engine.broker.deliveries import HeldMessage
from engine.broker.heartbeats import Heartbeat

logger = logging.getLogger(__name__)

Raw = bytes | str
BAD = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)


@lru_cache(maxsize=1000)
def report(what: str, queue: str, name: str) -> None:
    """Log it once, however often the entry is read."""
    logger.error("The %s of %s in queue %s is malformed and left out", what, name, queue)


def text(name: bytes) -> str:
    """Of bytes that are no text, with escapes."""
    return name.decode("utf-8", "backslashreplace")


def beats_of(queue: str, rows: Iterable[tuple[str, Any, Raw]]) -> list[Heartbeat]:
    """Of consumers, when they beat, and what they said. Of what cannot be read: never, and nothing."""
    return [Heartbeat(consumer, beat_time(at), beat_info(queue, consumer, raw)) for consumer, at, raw in rows]


def beat_time(at: Any) -> float:
    try:
        return seconds(at)
    except BAD:
        return 0.0


def beat_info(queue: str, consumer: str, raw: Raw) -> dict[str, Any]:
    info = object_of(raw)
    if info is None:
        report("heartbeat", queue, consumer)
    return info or {}


def held_of(queue: str, rows: Iterable[tuple[str, list[Any]]]) -> list[HeldMessage]:
    """Of run ids, and the words: task, consumer, worker, held at, delivery, attempt."""
    found = []
    for run_id, words in rows:
        try:
            task, consumer, worker, at, delivery, attempt = words
            found.append(
                HeldMessage(run_id, str(task), str(consumer), str(worker), seconds(at), int(delivery), int(attempt))
            )
        except BAD:
            report("holder", queue, run_id)
    return found


def pauses_of(queue: str, rows: Iterable[tuple[str, Raw]]) -> dict[str, dict[str, Any]]:
    """What is paused → by whom, when, why, and until when."""
    return {target: pause_info(queue, target, raw) for target, raw in rows}


def pause_info(queue: str, target: str, raw: Raw) -> dict[str, Any]:
    absent = {"kind": "code", "reason": None} | ({"until": None} if target.startswith("schedule:") else {})
    info = object_of(raw)
    if info is not None and is_pause(info):
        return absent | info
    report("pause", queue, target or "everything")
    return absent | {"by": "?", "at": datetime.now(UTC).isoformat(), "reason": "this pause is malformed"}


def is_pause(info: dict[str, Any]) -> bool:
    """Whether pages and the clock can read it."""
    until, reason = info.get("until"), info.get("reason")
    times = [info.get("at"), *([until] if until is not None else [])]
    words = [info.get("by"), *([reason] if reason is not None else [])]
    return all(map(is_time, times)) and all(isinstance(word, str) for word in words)


def is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except BAD:
        return False


def locks_of(queue: str, rows: Iterable[tuple[str, Raw]]) -> dict[str, tuple[str, str, str]]:
    """Name → owner, consumer, worker."""
    found = {}
    for name, raw in rows:
        try:
            owner, consumer, worker, _until = (checked(word, str) for word in json.loads(raw))
            found[name] = owner, consumer, worker
        except BAD:
            report("lock", queue, name)
    return found


def ticks_of(queue: str, rows: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """Task → the last minute that was let in."""
    found = {}
    for task, minute in rows:
        try:
            found[task] = int(minute)
        except BAD:
            report("last tick", queue, task)
    return found


# --- what a consumer says of itself --------------------------------------------------------------------------

Kind = type | tuple[type, ...]
NUMBER: Kind = (int, float)
REQUIRED: dict[str, Kind] = {
    "host": str, "pid": int, "code_version": str, "worker_type": str, "worker_count": int, "periodic": bool,
    "started_at": NUMBER,
}  # fmt: skip
TIMES = ("started_at", "stopped_at", "scheduler_at", "quiet_at")
COUNTS: dict[str, Kind] = {"rss_bytes": int, "cpu_percent": NUMBER, "processed": int, "failed": int}


def consumer_facts(queue: str, beat: Heartbeat) -> dict[str, Any] | None:
    """What a beat says, by column of the consumer's row; None where that is no beat of a consumer.

    What another version of the code says beside that is left out.
    """
    try:
        facts = {name: checked(beat.info[name], kind) for name, kind in REQUIRED.items() if name not in TIMES}
        facts |= {name: checked(beat.info.get(name, 0), kind) for name, kind in COUNTS.items()}
        facts |= {name: time_of(beat.info.get(name)) for name in TIMES}
        facts["started_at"] = time_of(checked(beat.info["started_at"], NUMBER))
        facts["beat_at"] = time_of(beat.at)
        facts["slots"] = [slot_of(slot) for slot in beat.info.get("slots", [])]
    except BAD:
        report("heartbeat", queue, beat.consumer)
        return None
    return facts


def slot_of(slot: Any) -> dict[str, Any]:
    kinds: dict[str, Kind] = {"worker": str, "pid": int, "rss_bytes": int, "cpu_percent": NUMBER}
    return {name: checked(slot[name], kind) for name, kind in kinds.items()}


def checked(value: Any, kind: Kind) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is of the wrong type")
    return value


def time_of(value: Any) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(seconds(value), UTC)


def seconds(value: Any) -> float:
    """Unix seconds that a date can be made of."""
    unix = float(value)
    if not 0 <= unix < 32_503_680_000 or math.isnan(unix):  # the year 3000
        raise ValueError(f"{value!r} is no time")
    return unix


def object_of(raw: Raw) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except BAD:
        return None
    return value if isinstance(value, dict) else None
