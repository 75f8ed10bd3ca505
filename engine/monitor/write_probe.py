"""Checks that broker and database accept writes. A server that rejects them often still answers reads."""

import threading
from collections.abc import Callable
from time import monotonic

from engine.database import database, on_postgresql, release_connection
from engine.models import OverwrittenRow, now
from engine.queues.queue import Queue

#: Time limit of a write, and the interval between two writes.
WITHIN_SECONDS, EVERY_SECONDS = 2.0, 5.0
#: A lock timeout slightly shorter, so that the database can still report the lock.
WRITE_TIMEOUT_SECONDS = 1.5


class WriteCheck(threading.Thread):
    """A write in its own thread, since a server may never answer. `target`: the server."""

    error: Exception | None = None

    def __init__(self, target: object, write: Callable[[], None]) -> None:
        super().__init__(name="write probe", daemon=True)
        self.target, self.write, self.began = target, write, monotonic()

    def run(self) -> None:
        try:
            self.write()
            if monotonic() > self.began + WITHIN_SECONDS:
                self.error = write_timeout()
        except Exception as error:
            self.error = error
        finally:
            release_connection()

    def is_recent(self) -> bool:
        return self.is_alive() or monotonic() < self.began + EVERY_SECONDS


class WriteProbe:
    """The last write to one server. At most one runs, and its result counts for `EVERY_SECONDS`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: WriteCheck | None = None

    def error(self, target: object, write: Callable[[], None]) -> Exception | None:
        with self.lock:
            last = self.last
            if last is None or last.target is not target or not last.is_recent():
                last = self.last = WriteCheck(target, write)
                last.start()
        last.join(max(last.began + WITHIN_SECONDS - monotonic(), 0))
        return write_timeout() if last.is_alive() else last.error


def write_timeout() -> Exception:
    return TimeoutError(f"a write takes more than {WITHIN_SECONDS:g} s")


broker, rows = WriteProbe(), WriteProbe()


def broker_error(queue: Queue) -> Exception | None:
    storage = queue.storage
    return broker.error(storage, lambda: storage.probe_write(WRITE_TIMEOUT_SECONDS))


def database_error() -> Exception | None:
    return rows.error(database.obj, write_probe_row)


def write_probe_row() -> None:
    milliseconds = int(WRITE_TIMEOUT_SECONDS * 1000)
    if not on_postgresql():
        database.execute_sql(f"PRAGMA busy_timeout = {milliseconds}")
    with database.atomic():
        if on_postgresql():
            database.execute_sql(f"SET LOCAL statement_timeout = {milliseconds}")
        OverwrittenRow.insert(id=1, at=now()).on_conflict(
            conflict_target=[OverwrittenRow.id], preserve=[OverwrittenRow.at]
        ).execute()
