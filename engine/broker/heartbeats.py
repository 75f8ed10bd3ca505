"""Heartbeats of consumers. They are validated, as other versions of the code write them too."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from engine.broker.parsing import PARSE_ERRORS, Info, Kind, Raw, checked, log_malformed, parse_timestamp
from engine.broker.signed_entries import SignedEntries
from engine.broker.signing import Purpose

NUMBER: Kind = (int, float)
REQUIRED: dict[str, Kind] = {
    "host": str, "pid": int, "code_version": str, "worker_type": str, "worker_count": int, "periodic": bool,
    "started_at": NUMBER,
}  # fmt: skip
TIMES = ("started_at", "stopped_at", "scheduler_at", "quiet_at")
COUNTS: dict[str, Kind] = {"rss_bytes": int, "cpu_percent": NUMBER, "processed": int, "failed": int}


class Heartbeat(NamedTuple):
    """The last heartbeat of a consumer: time (Unix seconds) and content."""

    consumer: str
    at: float
    info: Info


def parse_heartbeats(entries: SignedEntries, rows: Iterable[tuple[str, object, Raw]]) -> list[Heartbeat]:
    """Parse rows of consumer, time and content. A malformed time is 0, malformed content is empty."""
    return [Heartbeat(consumer, parse_time(at), parse_info(entries, consumer, raw)) for consumer, at, raw in rows]


def parse_time(at: object) -> float:
    try:
        return parse_timestamp(at)
    except PARSE_ERRORS:
        return 0.0


def parse_info(entries: SignedEntries, consumer: str, raw: Raw) -> Info:
    info = entries.read(Purpose.HEARTBEAT, consumer, raw)
    if info is None:
        log_malformed("heartbeat", entries.queue, consumer)
    return info or {}


def consumer_columns(queue: str, heartbeat: Heartbeat) -> Info | None:
    """Return the columns of the consumer's row, without fields of other code versions. None if malformed."""
    try:
        columns: Info = {name: checked(heartbeat.info[name], kind) for name, kind in REQUIRED.items()}
        columns |= {name: checked(heartbeat.info.get(name, 0), kind) for name, kind in COUNTS.items()}
        columns |= {name: datetime_or_none(heartbeat.info.get(name)) for name in TIMES}
        columns["book_folder"] = checked(heartbeat.info.get("book_folder") or "", str) or None
        columns["beat_at"] = datetime_or_none(heartbeat.at)
        columns["slots"] = [parse_slot(slot) for slot in heartbeat.info.get("slots", [])]
    except PARSE_ERRORS:
        log_malformed("heartbeat", queue, heartbeat.consumer)
        return None
    return columns


def parse_slot(slot: Any) -> Info:
    kinds: dict[str, Kind] = {"worker": str, "pid": int, "rss_bytes": int, "cpu_percent": NUMBER}
    return {name: checked(slot[name], kind) for name, kind in kinds.items()}


def datetime_or_none(value: object) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(parse_timestamp(value), UTC)
