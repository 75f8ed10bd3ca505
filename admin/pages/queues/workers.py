"""Consumers with their workers, current runs and resource usage."""

import re
from datetime import datetime
from typing import NamedTuple

from flask import request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import requires_role
from admin.operations.arguments import JSONObject
from admin.operations.workers import get_worker, pending_commands
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import InvalidInput
from config import settings
from engine.exceptions import BrokerUnavailable
from engine.history import lag, rejected, tracebacks
from engine.history.lag import Lag
from engine.models import Consumer, now
from engine.monitor import consumers
from engine.monitor import consumers as consumer_status
from engine.monitor.consumers import LEASE_TIME
from engine.version import code_version

CONSUMERS, GONE = 25, 25
#: Current runs shown in the list, divided among its consumers.
JOBS = 50


class WorkerLine(NamedTuple):
    """A consumer in the list, with some of its current runs."""

    consumer: Consumer
    state: str
    busy: list["Slot"]
    busy_count: int
    idle_count: int


class Slot(NamedTuple):
    """A worker of a consumer. `job`: its current run, as in `Consumer.running`. Threads have no pid."""

    name: str
    pid: int | None
    rss_bytes: int | None
    cpu_percent: float | None
    job: JSONObject | None


@blueprint.get("/workers")
@requires_role("viewer")
def workers() -> ResponseReturnValue:
    as_of, consumer_rows = now(), consumers.list_consumers()
    heirs = consumer_status.find_replacements(consumer_rows, as_of)
    gone = [
        consumer for consumer in consumer_rows if consumer.id in heirs or consumer.state(as_of, LEASE_TIME) == "stopped"
    ]
    lines = sort_workers([worker_line(consumer, as_of) for consumer in consumer_rows if consumer not in gone])
    start = start_command(len(lines))
    shown = lines[start : start + CONSUMERS]
    per_line = max(JOBS // max(len(shown), 1), 1)
    return live_refresh.render_page(
        "queues/workers.html",
        as_of=as_of,
        lines=[line._replace(busy=line.busy[:per_line]) for line in shown],
        start=start,
        step=CONSUMERS,
        count=len(lines),
        gone=gone[:GONE],
        gone_count=len(gone),
        heirs=heirs,
        worker_counts={queue: settings.workers.get(queue, 1) for queue in tasks.queues},
        versions=sorted({line.consumer.code_version for line in lines if line.state != "lost"}),
        lags=scheduler_lags(),
        rejected=sum(rejected.count_rejected(list(tasks.queues)).values()),
    )


def scheduler_lags() -> dict[str, Lag] | None:
    """Return the history lag of each queue; None if the broker is unavailable."""
    try:
        return lag.load_lags(tasks.queues)
    except BrokerUnavailable:
        return None


def start_command(count: int) -> int:
    """Return the offset of this part of the list."""
    text = request.args.get("start", "0")
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise InvalidInput("start", _("must be a whole number"))
    return min(int(text), max(count - 1, 0)) // CONSUMERS * CONSUMERS


def worker_line(consumer: Consumer, as_of: datetime) -> WorkerLine:
    slots = worker_slots(consumer)
    busy = sorted((slot for slot in slots if slot.job), key=lambda slot: slot.job["since"] if slot.job else "")
    return WorkerLine(consumer, consumer.state(as_of, LEASE_TIME), busy, len(busy), len(slots) - len(busy))


def sort_workers(lines: list[WorkerLine]) -> list[WorkerLine]:
    """Sort lost consumers first, then by queue. Heartbeats do not change the order."""
    names = list(tasks.queues)

    def sort_key(line: WorkerLine) -> tuple[bool, int, str, str]:
        consumer = line.consumer
        return (
            line.state != "lost",
            names.index(consumer.queue) if consumer.queue in names else len(names),
            consumer.host,
            consumer.id,
        )

    return sorted(lines, key=sort_key)


def worker_slots(consumer: Consumer) -> list[Slot]:
    """Return the workers by number, including busy workers without a record."""
    jobs = {job["worker"]: job for job in consumer.running}
    recorded = {slot["worker"]: slot for slot in consumer.slots}
    names = {f"Worker-{number}" for number in range(1, consumer.worker_count + 1)} | set(jobs)
    return [
        Slot(name, slot.get("pid"), slot.get("rss_bytes"), slot.get("cpu_percent"), jobs.get(name))
        for name in sorted(names, key=lambda name: (len(name), name))
        for slot in [recorded.get(name, {})]
    ]


@blueprint.get("/workers/<worker_id>")
@requires_role("viewer")
def worker(worker_id: str) -> ResponseReturnValue:
    as_of, consumer = now(), get_worker(worker_id)
    dump, pending, broker_away = pending_commands(consumer)
    return live_refresh.render_page(
        "queues/worker.html",
        as_of=as_of,
        lease=LEASE_TIME,
        worker=consumer,
        state=consumer.state(as_of, LEASE_TIME),
        slots=worker_slots(consumer),
        heir=consumer_status.find_replacements(consumers.list_consumers(), as_of).get(consumer.id),
        console_version=code_version(),
        dump=dump,
        pending=pending,
        trouble=broker_away,
    )


class Thread(NamedTuple):
    """Stack frames of a thread: those of the task's code, innermost last, and those of libraries."""

    inner: list[tracebacks.Frame]
    outer: list[tracebacks.Frame]


@blueprint.app_template_filter("threads")
def parse_threads(text: str) -> list[Thread]:
    """Return the stack of each thread of a worker. An idle worker is recognised by its waiting frame."""
    heading, parts = tracebacks.HEADING, []
    for part in text.split(heading):
        frames = tracebacks.parse_traceback(heading + part).frames
        task = next((at for at in range(len(frames), 0, -1) if frames[at - 1].place.startswith("engine/")), 0)
        start = task if task < len(frames) else max(task - 2, 0)
        if frames:
            parts.append(Thread(frames[start:], frames[:start]))
    return parts
