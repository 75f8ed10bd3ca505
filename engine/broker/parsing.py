"""Broker entries besides messages. They are validated, as other versions of the code or other programs may write them.

A malformed entry is logged once and ignored. A malformed pause still holds, so that nothing starts by accident.
"""

import json
import logging
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from engine.broker.deliveries import HeldMessage, MissingTask

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: The same limit as parse_count in lua/lib/common.lua.
MAX_COUNT = 10**9
#: The end of the year 2999.
LAST_TIMESTAMP = 32_503_679_999.0

#: A JSON object.
Info = dict[str, Any]
Raw = bytes | str
Kind = type | tuple[type, ...]
PARSE_ERRORS = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)


@lru_cache(maxsize=1000)
def log_malformed(kind: str, queue: str, name: str) -> None:
    """Log an entry once, however often it is read."""
    logger.error("The %s of %s in queue %s is malformed and left out", kind, name, queue)


def is_stream_name(name: str) -> bool:
    """Return true for a name that a program of ours has given to a stream."""
    return bool(re.fullmatch("[0-9a-f]{32}", name))


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
                    run_id,
                    str(task),
                    str(consumer),
                    str(worker),
                    parse_timestamp(at),
                    parse_count(delivery),
                    parse_count(attempt),
                )
            )
        except PARSE_ERRORS:
            log_malformed("holder", queue, run_id)
    return held


def parse_missing_task(queue: str, run_id: str, met: Raw, met_at: object, until: object) -> MissingTask | None:
    """Parse the consumer that lacked a task, the first time, and the end of the grace. None if malformed."""
    try:
        task, consumer, consumer_id, version = (checked(text, str) for text in json.loads(met))
        times = parse_timestamp(met_at), parse_timestamp(until)
        return MissingTask(task, consumer, consumer_id, version, *times)
    except PARSE_ERRORS:
        log_malformed("missing task", queue, run_id)
        return None


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


def parse_count(value: Any) -> int:
    """Return a number of attempts or deliveries, which every column and JSON can hold. Raises ValueError."""
    count = int(value)
    if not 0 <= count < MAX_COUNT:
        raise ValueError(f"{value!r} is not a count")
    return count


def clamp_timestamp(value: float) -> float:
    """Return the nearest time that a datetime can represent, so that the order of entries stays."""
    return min(max(value, 0.0), LAST_TIMESTAMP)


def parse_timestamp(value: Any) -> float:
    """Return Unix seconds that a datetime can represent. Raises ValueError."""
    timestamp = float(value)
    if not 0 <= timestamp <= LAST_TIMESTAMP or math.isnan(timestamp):
        raise ValueError(f"{value!r} is not a time")
    return timestamp
