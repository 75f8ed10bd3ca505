"""Events that cannot be stored. They are set aside with the reason, and the rest of their batch is written."""

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from json import JSONDecodeError

from engine.database import database
from engine.history import event_handlers, events
from engine.history.events import EventReader, StreamLine
from engine.models import HistoryCursor, RejectedEvent, now
from engine.refusals import is_refusal, write_each
from engine.text import storable

logger = logging.getLogger(__name__)

#: Maximum bytes of the stored line, of its reason, and of the run's id.
MAX_LINE, MAX_REASON, MAX_WORD = 4096, 1000, 200


def apply_or_reject(reader: EventReader, stream: str, lines: Sequence[StreamLine]) -> None:
    """Apply these lines in the caller's transaction, and set aside those that cannot be stored."""
    rejected = write_each(lines, partial(event_handlers.apply_events, reader))
    for (position, line), error in rejected:
        reject(reader.queue.name, stream, position, line, error)
    counted = HistoryCursor.rejected + len(rejected)
    HistoryCursor.update(rejected=counted).where(HistoryCursor.stream == stream).execute()


def reject(queue: str, stream: str, position: int, line: bytes, error: Exception) -> None:
    run_id, kind = run_and_kind(line)
    reason = rejection_reason(error)
    logger.error("An event of run %s in queue %s is rejected: %s", run_id or "?", queue, reason)
    row = {
        "queue": queue, "stream": stream, "position": position, "run_id": run_id, "kind": kind, "reason": reason,
        "line": storable(line.decode("utf-8", "backslashreplace"), MAX_LINE), "rejected_at": now(),
    }  # fmt: skip
    try:
        with database.atomic():
            RejectedEvent.insert(**row).execute()
    except Exception as refusal:
        if not is_refusal(refusal):
            raise
        logger.exception("The rejected event of run %s could not be stored either", run_id or "?")


def run_and_kind(line: bytes) -> tuple[str | None, str | None]:
    try:
        event = events.parse_event(line)
        return text_field(event.get("id")), text_field(event.get("kind"))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None, None


def text_field(value: object) -> str | None:
    return storable(value, MAX_WORD) or None if isinstance(value, str) else None


def rejection_reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    if isinstance(error, JSONDecodeError):
        return f"it is no JSON: {error}"
    return storable(str(error).partition("\n")[0] or type(error).__name__, MAX_REASON)


def count_rejected(queues: Sequence[str]) -> dict[str, int]:
    counts = dict.fromkeys(queues, 0)
    for row in HistoryCursor.select(HistoryCursor.stream, HistoryCursor.rejected):
        name = row.stream.partition(":")[0]
        if name in counts:
            counts[name] += row.rejected
    return counts


def delete_older(before: datetime) -> None:
    RejectedEvent.delete().where(RejectedEvent.rejected_at < before).execute()
