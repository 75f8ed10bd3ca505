"""The upgrade from code that did not sign events and pauses.

The first consumer of the new code signs the pauses of its queue and notes the position of its event stream. Events up
to there are accepted without a signature. The note is in the database, which writers to the broker cannot change.
"""

import json

from engine.broker.parsing import PARSE_ERRORS
from engine.broker.pauses import is_pause
from engine.broker.signing import Purpose
from engine.history.writer import read_cursor
from engine.models import HistoryCursor, now
from engine.queues.queue import Queue


def note_upgrade(queue: Queue) -> None:
    """Note the position of the stream, unless a consumer of the new code has done so before.

    A queue that the former code never recorded has no cursor, but it may have pauses.
    """
    of_queue = HistoryCursor.stream.startswith(f"{queue.name}:")
    if HistoryCursor.select().where(of_queue & HistoryCursor.upgraded_at.is_null(False)).exists():
        return
    sign_pauses(queue)
    remove_old_heartbeats(queue)
    at, last = now(), queue.storage.events.last()
    cursor = read_cursor(queue.storage.events.stream())
    unnoted = of_queue & HistoryCursor.signed_from.is_null()
    HistoryCursor.update(signed_from=last).where(unnoted & (HistoryCursor.stream == cursor.stream)).execute()
    # Streams of earlier data sets: nothing more is read from them.
    HistoryCursor.update(signed_from=0).where(unnoted).execute()
    HistoryCursor.update(upgraded_at=at).where(of_queue).execute()


def remove_old_heartbeats(queue: Queue) -> None:
    """Remove the heartbeats of consumers of the former code that were killed. Their runs are reaped."""
    for beat in queue.storage.heartbeats.all():
        if not beat.info:
            queue.storage.heartbeats.remove(beat.consumer)


def sign_pauses(queue: Queue) -> None:
    for target, raw in queue.storage.pauses.rows():
        if queue.storage.entries.read(Purpose.PAUSE, target, raw) is None:
            try:
                info = json.loads(raw)
                if is_pause(info):
                    queue.storage.pauses.put(target, info)
            except PARSE_ERRORS:
                continue
