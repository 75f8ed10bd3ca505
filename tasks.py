"""All tasks of the program, and its three queues: heavy (books), normal (images), light (cleanup)."""

from uuid import UUID

from config import QUEUES, settings
from engine.broker.messages import Requester
from engine.control import bulk, retention
from engine.control.runs import run_task
from engine.models import now
from engine.queues.crontab import crontab
from engine.queues.registry import share_names
from engine.queues.task import QueueTask
from engine.worker.served_queue import ServedQueue
from reading import processing, sessions, stuck_books
from reading.book_sources import BookDeleted
from reading.books.errors import BookError
from reading.files import book_files
from reading.orphaned_files import delete_orphaned

queues = {name: ServedQueue(name) for name in QUEUES}
share_names(queues.values())
heavy, normal, light = queues.values()

OPTIONS = processing.Options(book_files, settings.words_per_minute, settings.share_with_app)


def failed_cleanup_result(task: QueueTask, error: Exception) -> sessions.CleanupResult:
    """Return the result of a cleanup that finally failed: the sessions it closed, and the error."""
    instant, _ = task.run_timestamp()
    closed = sessions.count_closed_at(instant)
    return sessions.cleanup_result(instant - settings.abandoned_after, closed, 0.0, str(error))


@light.periodic_task(
    crontab(minute="*/30"),
    catch_up=True,
    context=True,
    priority=2,
    retries=3,
    retry_delay=300,
    failed_result=failed_cleanup_result,
)
def close_abandoned_sessions(task: QueueTask) -> sessions.CleanupResult:
    """Close the reading sessions that were never ended."""
    as_of, first = task.run_timestamp()
    already = 0 if first else sessions.count_closed_at(as_of)
    return sessions.close_abandoned(as_of, settings.abandoned_after, settings.cleanup_batch_size, already=already)


@light.task(priority=1)
def get_cleanup_statistics(hours: int = 24) -> sessions.CleanupStatistics:
    """Count the sessions closed in the last hours (1 to 168), and those active now."""
    return sessions.cleanup_statistics(now(), hours)


@heavy.task(context=True, priority=5, unique=True, retries=3, retry_delay=60)
def process_book(book_id: str, task: QueueTask) -> processing.ProcessedBook:
    """Read a book's file and store its chapters."""
    try:
        return processing.process_book(UUID(book_id), task.id, OPTIONS, task.progress)
    except (BookError, BookDeleted):
        task.retries = 0  # another attempt would fail alike
        raise


@light.periodic_task(crontab(minute="*/10"), context=True, priority=1)
def requeue_stuck_books(task: QueueTask) -> dict[str, int]:
    """Process books again whose run is lost, at most three times each."""

    def enqueue(book_id: UUID) -> str:
        asker = Requester("run", task.id)
        return str(run_task(queues, "process_book", kwargs={"book_id": str(book_id)}, by=asker).id)

    return {"requeued": stuck_books.requeue(now(), enqueue)}


@light.periodic_task(crontab(hour="3", minute="0"), catch_up=True, priority=1)
def cleanup_old_task_results() -> dict[str, int]:
    """Delete expired results, old runs, consumers that stopped long ago, and files of no book."""
    delete_orphaned(book_files, now())
    return retention.prune(queues.values(), now(), settings.history_days, settings.failed_history_days)


@light.task(context=True, priority=2, retries=3, retry_delay=30)
def process_bulk(bulk_id: int, task: QueueTask) -> dict[str, int]:
    """Process a bulk action on runs, one batch at a time."""
    return bulk.process(queues, bulk_id, task.progress)
