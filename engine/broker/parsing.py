"""Broker entries besides messages. They are validated, as other versions of the code or other programs may write them.

A malformed entry is logged once and ignored. A malformed pause still holds, so that nothing starts by accident.
"""

import json
import logging
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from engine.broker.deliveries import HeldMessage

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A JSON object.
Info = dict[str, Any]
Raw = bytes | str
Kind = type | tuple[type, ...]
PARSE_ERRORS = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)


@lru_cache(maxsize=1000)
def log_malformed(kind: str, queue: str, name: str) -> None:
    """Log an entry once, however often it is read."""
    logger.error("The %s of %s in queue %s is malformed and left out", kind, name, queue)


def decode(name: bytes) -> str:
    """Return text. Bytes that are not UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")


def parse_held(queue: str, rows: Iterable[tuple[str, Sequence[Any]]]) -> list[HeldMessage]:
    """Parse rows of run id and task, consumer, worker, held at, delivery, attempt."""
    held = []
    for run_id, fields in rows:
        try:
            task, consumer, worker, at, delivery, attempt = fields
            held.append(
                HeldMessage(
                    run_id, str(task), str(consumer), str(worker), parse_timestamp(at), int(delivery), int(attempt)
                )
            )
        except PARSE_ERRORS:
            log_malformed("holder", queue, run_id)
    return held


def parse_pauses(queue: str, rows: Iterable[tuple[str, Raw]]) -> dict[str, Info]:
    """Return by target: by, kind, at, reason, until."""
    return {target: parse_pause(queue, target, raw) for target, raw in rows}


def parse_pause(queue: str, target: str, raw: Raw) -> Info:
    defaults: Info = {"kind": "code", "reason": None} | ({"until": None} if target.startswith("schedule:") else {})
    info = parse_object(raw)
    if info is not None and is_pause(info):
        return defaults | info
    log_malformed("pause", queue, target or "everything")
    return defaults | {"by": "?", "at": datetime.now(UTC).isoformat(), "reason": "this pause is malformed"}


def is_pause(info: Info) -> bool:
    until, reason = info.get("until"), info.get("reason")
    times = [info.get("at"), *([until] if until is not None else [])]
    texts = [info.get("by"), *([reason] if reason is not None else [])]
    return all(map(is_time, times)) and all(isinstance(text, str) for text in texts)


def is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except PARSE_ERRORS:
        return False


def parse_locks(queue: str, rows: Iterable[tuple[str, Raw]]) -> dict[str, tuple[str, str, str]]:
    """Return name → owner, consumer, worker."""
    locks = {}
    for name, raw in rows:
        try:
            owner, consumer, worker, _until = (checked(field, str) for field in json.loads(raw))
            locks[name] = owner, consumer, worker
        except PARSE_ERRORS:
            log_malformed("lock", queue, name)
    return locks


def parse_ticks(queue: str, rows: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """Return task → the last recorded minute."""
    ticks = {}
    for task, minute in rows:
        try:
            ticks[task] = int(minute)
        except PARSE_ERRORS:
            log_malformed("last tick", queue, task)
    return ticks


def checked(value: T, kind: Kind) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is of the wrong type")
    return value


def parse_timestamp(value: Any) -> float:
    """Return Unix seconds that a datetime can represent. Raises ValueError."""
    timestamp = float(value)
    if not 0 <= timestamp < 32_503_680_000 or math.isnan(timestamp):  # the year 3000
        raise ValueError(f"{value!r} is not a time")
    return timestamp


def parse_object(raw: Raw) -> Info | None:
    try:
        value = json.loads(raw)
    except PARSE_ERRORS:
        return None
    return value if isinstance(value, dict) else None
