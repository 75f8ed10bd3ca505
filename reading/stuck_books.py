"""Books whose run has ended or is missing before they were completed."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from engine.models import ENDED, Run, State
from models import BookFile
from reading.processing import fail

MAX_REQUEUES = 3
#: A younger book may be between its row and its run.
MINIMUM_AGE = timedelta(minutes=2)


def take_stuck(as_of: datetime) -> Iterator[UUID]:
    """Yield each stuck book that is to be processed again, and count it. A book is re-queued at most three times.

    After that it fails as `worker_lost`. One whose run was cancelled fails as `cancelled`.
    """
    unfinished = BookFile.select().where(BookFile.state.in_(("queued", "processing")))
    for book in list(unfinished.where(BookFile.added_at < as_of - MINIMUM_AGE)):
        run = Run.get_or_none(Run.id == book.run_id) if book.run_id else None
        if run and run.state not in ENDED:
            continue
        if run and run.state == State.CANCELLED:
            fail(book.book_id, "cancelled", run.error or "its run was cancelled")
        elif book.requeued >= MAX_REQUEUES:
            fail(book.book_id, "worker_lost", last_error(run))
        else:
            claimed = (BookFile.book_id == book.book_id) & (BookFile.requeued == book.requeued)
            if BookFile.update(requeued=book.requeued + 1).where(claimed).execute():
                yield book.book_id


def last_error(run: Run | None) -> str:
    return (run and run.error) or f"no run processed it after {MAX_REQUEUES} attempts"
