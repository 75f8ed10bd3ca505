"""Books whose run has ended or is missing before they were completed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from peewee import fn

from engine.models import ENDED, Run, State
from models import BookFile
from reading.processing import fail

MAX_REQUEUES = 3
#: A younger book may be between its row and its run.
MINIMUM_AGE = timedelta(minutes=2)


def requeue(as_of: datetime, enqueue: Callable[[UUID], str]) -> int:
    """Process stuck books again, each at most three times. Return the number of new runs, whose id `enqueue` returns.

    After that a book fails as `worker_lost`. One whose run was cancelled fails as `cancelled`.
    """
    live = Run.select().where((Run.id == BookFile.run_id) & Run.state.not_in(ENDED))
    unfinished = BookFile.select().where(BookFile.state.in_(("queued", "processing")) & ~fn.EXISTS(live))
    count = 0
    for book in list(unfinished.where(BookFile.added_at < as_of - MINIMUM_AGE)):
        run = Run.get_or_none(Run.id == book.run_id) if book.run_id else None
        if run and run.state == State.CANCELLED:
            fail(book.book_id, "cancelled", run.error or "its run was cancelled")
        elif book.requeued >= MAX_REQUEUES:
            fail(book.book_id, "worker_lost", last_error(run))
        elif claim(book):
            BookFile.update(run_id=enqueue(book.book_id)).where(BookFile.book_id == book.book_id).execute()
            count += 1
    return count


def claim(book: BookFile) -> bool:
    """Count the attempt. False if another sweep has done so."""
    same = (BookFile.book_id == book.book_id) & (BookFile.requeued == book.requeued)
    return bool(BookFile.update(requeued=book.requeued + 1).where(same).execute())


def last_error(run: Run | None) -> str:
    return (run and run.error) or f"no run processed it after {MAX_REQUEUES} attempts"
