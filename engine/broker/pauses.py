"""Pauses of queues, tasks and schedules. A malformed or forged one still holds, so that nothing starts by accident."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from engine.broker.parsing import PARSE_ERRORS, Info, Raw, log_malformed
from engine.broker.signed_entries import SignedEntries
from engine.broker.signing import Purpose


def parse_pauses(entries: SignedEntries, rows: Iterable[tuple[str, Raw]]) -> dict[str, Info]:
    """Return by target: by, kind, at, reason, until."""
    return {
        target: parse_pause(entries.queue, target, entries.read(Purpose.PAUSE, target, raw)) for target, raw in rows
    }


def parse_pause(queue: str, target: str, info: Info | None) -> Info:
    defaults: Info = {"kind": "code", "reason": None} | ({"until": None} if target.startswith("schedule:") else {})
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
