"""The upgrade from code that did not sign events and pauses.

The first consumer of the new code signs the pauses of its queue and notes the position of its event stream. Events up
to there are accepted without a signature. The note is in the database, which writers to the broker cannot change.
"""

import json

from engine.broker.parsing import PARSE_ERRORS
from engine.broker.pauses import is_pause
from engine.broker.signing import Purpose
from engine.models import HistoryCursor, now
from engine.queues.queue import Queue


def note_upgrade(queue: Queue) -> None:
    """Note the position of the stream, unless a consumer of the new code has done so before."""
    unnoted = HistoryCursor.stream.startswith(f"{queue.name}:") & HistoryCursor.signed_from.is_null()
    if not HistoryCursor.select().where(unnoted).exists():
        return
    sign_pauses(queue)
    remove_old_heartbeats(queue)
    stream, at = queue.storage.events.stream(), now()
    last = queue.storage.events.last()
    HistoryCursor.update(signed_from=last, upgraded_at=at).where(unnoted & (HistoryCursor.stream == stream)).execute()
    # Streams of earlier data sets: nothing more is read from them.
    HistoryCursor.update(signed_from=0, upgraded_at=at).where(unnoted).execute()


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
