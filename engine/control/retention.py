"""Deletion of expired data: results, run history, rows of stopped consumers."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from engine.control import bulk
from engine.database import database
from engine.history import error_groups, rejected, run_counts
from engine.models import ENDED, Attempt, Consumer, Run, State, Tick
from engine.monitor import alerts
from engine.queues.queue import Queue

BATCH_SIZE = 5000


def prune(queues: Iterable[Queue], as_of: datetime, days: int, failed_days: int) -> dict[str, int]:
    """Delete expired data and return the number of rows by kind. Failed and dead runs are kept for `failed_days`."""
    run_counts.delete_older(as_of)
    bulk.delete_older(as_of - bulk.RETENTION)
    error_groups.delete_older(as_of - timedelta(days=failed_days))
    alerts.delete_older(as_of - timedelta(days=failed_days))
    rejected.delete_older(as_of - timedelta(days=failed_days))
    Tick.delete().where(Tick.due_at < as_of - timedelta(days=days)).execute()
    failed = (State.FAILED, State.DEAD)
    rest = tuple(state for state in ENDED if state not in failed)
    return {
        "results": sum(queue.storage.results.delete_expired() for queue in queues),
        "runs": delete_ended_before(rest, as_of - timedelta(days=days))
        + delete_ended_before(failed, as_of - timedelta(days=failed_days)),
        "workers": Consumer.delete().where(Consumer.beat_at < as_of - Consumer.RETENTION).execute(),
    }


def delete_ended_before(states: tuple[State, ...], ended_before: datetime) -> int:
    """Delete in batches, so that no lock is held for long."""
    removed = 0
    while True:
        old = Run.select(Run.id).where(Run.state.in_(states) & (Run.ended_at < ended_before)).limit(BATCH_SIZE)
        ids = [run.id for run in old]
        with database.atomic():
            for start in range(0, len(ids), 500):
                chunk = ids[start : start + 500]
                Attempt.delete().where(Attempt.run_id.in_(chunk)).execute()
                removed += Run.delete().where(Run.id.in_(chunk)).execute()
        if len(ids) < BATCH_SIZE:
            return removed
