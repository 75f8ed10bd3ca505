"""Runs and consumers in Flower's form: its keys, its states, times in Unix seconds."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import cast

from peewee import fn

from config import settings
from engine.models import Attempt, Consumer, Run, State
from engine.monitor.registered_tasks import TaskInfo
from engine.queues.queue import Queue

#: Flower's state by state.
STATES: dict[str, str] = {
    State.WAITING: "PENDING",
    State.SCHEDULED: "RECEIVED",
    State.RUNNING: "STARTED",
    State.RETRYING: "RETRY",
    State.SUCCEEDED: "SUCCESS",
    State.FAILED: "FAILURE",
    State.DEAD: "FAILURE",
    State.CANCELLED: "REVOKED",
    State.EXPIRED: "REVOKED",
}

MAX_CHILDREN = 1000


def full_name(task: str) -> str:
    return f"tasks.{task}"


def states_for(name: str) -> frozenset[str]:
    """Return the states with this name in Flower."""
    return frozenset(state for state, flowers in STATES.items() if flowers == name)


# --- tasks ---------------------------------------------------------------------------------------------------


def serialize_tasks(runs: Sequence[Run]) -> dict[str, dict[str, object]]:
    """Return the runs by id in order. A run without a worker has no `worker`. Takes three statements."""
    ids = [run.id for run in runs]
    children = load_children(ids)
    failed = [run.id for run in runs if STATES[run.state] == "FAILURE"]
    tracebacks, retried = load_tracebacks(failed), load_retry_times([run.id for run in runs if run.attempts > 1])
    return {
        run.id: serialize_task(run, tracebacks.get(run.id), retried.get(run.id), children.get(run.id, []))
        for run in runs
    }


def serialize_task(run: Run, traceback: str | None, retried: datetime | None, children: list[str]) -> dict[str, object]:
    state = STATES[run.state]
    ended = to_seconds(run.ended_at)
    succeeded, failed, revoked = (ended if state == name else None for name in ("SUCCESS", "FAILURE", "REVOKED"))
    fields = {
        "uuid": run.id,
        "name": full_name(run.task),
        "state": state,
        "received": None if state == "PENDING" else to_seconds(run.enqueued_at),
        "sent": to_seconds(run.enqueued_at),
        "started": to_seconds(run.started_at),
        "rejected": None,
        "succeeded": succeeded,
        "failed": failed,
        "retried": to_seconds(retried),
        "revoked": revoked,
        "args": repr(tuple(run.args or ())),
        "kwargs": repr(run.kwargs or {}),
        "eta": run.due_at and run.due_at.isoformat(),
        "expires": None,
        "retries": max(run.attempts - 1, 0),
        "result": repr(run.result) if succeeded else None,
        "exception": exception_text(run.error) if state in ("FAILURE", "RETRY") else None,
        "timestamp": to_seconds(run.ended_at or retried or run.started_at or run.enqueued_at),
        "runtime": run.run_ms / 1000 if succeeded and run.run_ms is not None else None,
        "traceback": traceback,
        "exchange": "",
        "routing_key": run.queue,
        "clock": int((run.ended_at or run.started_at or run.enqueued_at).timestamp() * 1000),
        "client": run.asked_by,
        "root": run.parent_id or run.id,
        "root_id": run.parent_id or run.id,
        "parent": run.parent_id,
        "parent_id": run.parent_id,
        "children": children,
    }
    return fields | ({"worker": worker_of_run(run)} if run.worker else {})


def to_seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at else None


def exception_text(error: str | None) -> str | None:
    """Return `ValueError('no')` for `ValueError: no`."""
    match = re.fullmatch(r"([\w.]+): (.*)", error or "", re.DOTALL)
    return f"{match[1]}({match[2]!r})" if match else error


def worker_of_run(run: Run) -> str:
    """Return `light@host:pid` for `Worker-1 on host:pid:random`."""
    host, pid, *_ = [*(run.worker or "").rpartition(" on ")[2].split(":"), ""]
    return f"{run.queue}@{host}:{pid}"


def load_children(ids: list[str]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    runs = Run.select(Run.id, Run.parent_id).where(Run.parent_id.in_(ids)).limit(MAX_CHILDREN)
    rows = cast(Iterable[tuple[str, str]], runs.order_by(Run.enqueued_at).tuples())
    for run_id, parent_id in rows:
        children.setdefault(parent_id, []).append(run_id)
    return children


def load_tracebacks(ids: list[str]) -> dict[str, str]:
    """Return the traceback of the last attempt with one, by run id."""
    attempts = Attempt.select(Attempt.run_id, Attempt.traceback).where(
        Attempt.run_id.in_(ids) & Attempt.traceback.is_null(False)
    )
    return dict(cast(Iterable[tuple[str, str]], attempts.order_by(Attempt.run_id, Attempt.number).tuples()))


def load_retry_times(ids: list[str]) -> dict[str, datetime]:
    again = (Attempt.state == State.FAILED) & Attempt.next_at.is_null(False) & Attempt.run_id.in_(ids)
    last: object = fn.MAX(Attempt.ended_at)
    attempts = Attempt.select(Attempt.run_id, last).where(again).group_by(Attempt.run_id)
    rows = cast(Iterable[tuple[str, object]], attempts.tuples())
    return {run_id: Attempt.ended_at.python_value(at) for run_id, at in rows}


# --- workers -------------------------------------------------------------------------------------------------


def serialize_worker(consumer: Consumer, queue: Queue, facts: Iterable[TaskInfo]) -> dict[str, object]:
    """Return what Flower reads with Celery's `inspect`. Figures that only Celery has are left out."""
    return {
        "stats": {
            "total": {"all tasks": consumer.processed},
            "pid": consumer.pid,
            "clock": str(int(consumer.beat_at.timestamp() * 1000)),
            "uptime": round((consumer.beat_at - consumer.started_at).total_seconds()),
            "pool": {
                "implementation": consumer.worker_type,
                "max-concurrency": consumer.worker_count,
                "processes": [slot["pid"] for slot in consumer.slots],
                "max-tasks-per-child": settings.worker_max_tasks or "N/A",
                "put-guarded-by-semaphore": False,
                "timeouts": [settings.soft_time_limit, settings.time_limit],
            },
            "broker": broker_url(queue),
            "prefetch_count": consumer.worker_count,
            "rusage": {"maxrss": consumer.rss_bytes // 1024},
        },
        "timestamp": consumer.beat_at.timestamp(),
        "registered": sorted(full_name(fact.name) for fact in facts if fact.queue == consumer.queue),
        "conf": {
            "task_default_queue": consumer.queue,
            "worker_concurrency": consumer.worker_count,
            "result_expires": settings.result_ttl_seconds,
            "task_soft_time_limit": settings.soft_time_limit,
            "task_time_limit": settings.time_limit,
            "timezone": "UTC",
        },
        "active_queues": [serialize_queue(consumer.queue)],
    }


def broker_url(queue: Queue) -> dict[str, object]:
    """Return the address of the broker without its password."""
    address = queue.storage.address()
    return {
        "hostname": address.host,
        "userid": address.user,
        "virtual_host": str(address.database),
        "port": address.port,
        "ssl": address.tls,
        "transport": address.transport,
    }


def serialize_queue(name: str) -> dict[str, object]:
    exchange = {
        "name": name, "type": "direct", "arguments": None, "durable": True, "passive": False, "auto_delete": False,
        "delivery_mode": None, "no_declare": False,
    }  # fmt: skip
    missing = dict.fromkeys(
        ("queue_arguments", "binding_arguments", "consumer_arguments", "alias", "no_declare", "expires", "message_ttl",
         "max_length", "max_length_bytes", "max_priority")
    )  # fmt: skip
    return {
        "name": name, "exchange": exchange, "routing_key": name, "durable": True, "exclusive": False,
        "auto_delete": False, "no_ack": False, "bindings": [], **missing,
    }  # fmt: skip
