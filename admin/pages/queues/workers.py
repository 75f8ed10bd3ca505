"""Who works: every consumer with its workers, what they run and what they use."""

import re
from datetime import datetime
from typing import NamedTuple

from flask import request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import needs
from admin.operations.arguments import JSONObject
from admin.operations.workers import asked_of, get_worker
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import BadInput
from config import settings
from engine.exceptions import BrokerAway
from engine.history import lag, rejected, tracebacks
from engine.history.lag import Lag
from engine.models import WorkerProcess, now
from engine.monitor import consumers
from engine.monitor import consumers as consumer_status
from engine.monitor.consumers import LEASE
from engine.version import code_version

CONSUMERS, GONE = 25, 25
#: Runs that the list shows, shared out among its consumers.
JOBS = 50


class Line(NamedTuple):
    """A consumer on the list, with some of what its workers run."""

    consumer: WorkerProcess
    state: str
    busy: list["Slot"]
    busy_count: int
    idle_count: int


class Slot(NamedTuple):
    """One worker of a consumer. `job`: what it runs, as in `WorkerProcess.running`. A thread has no pid of its own."""

    name: str
    pid: int | None
    rss_bytes: int | None
    cpu_percent: float | None
    job: JSONObject | None


@blueprint.get("/workers")
@needs("viewer")
def workers() -> ResponseReturnValue:
    as_of, consumer_rows = now(), consumers.workers()
    heirs = consumer_status.replacements(consumer_rows, as_of)
    gone = [consumer for consumer in consumer_rows if consumer.id in heirs or consumer.state(as_of, LEASE) == "stopped"]
    lines = in_order([line_of(consumer, as_of) for consumer in consumer_rows if consumer not in gone])
    start = start_of(len(lines))
    shown = lines[start : start + CONSUMERS]
    per_line = max(JOBS // max(len(shown), 1), 1)
    return live_refresh.page(
        "queues/workers.html",
        as_of=as_of,
        lines=[line._replace(busy=line.busy[:per_line]) for line in shown],
        start=start,
        step=CONSUMERS,
        count=len(lines),
        gone=gone[:GONE],
        gone_count=len(gone),
        heirs=heirs,
        wanted={queue: settings.workers.get(queue, 1) for queue in tasks.queues},
        versions=sorted({line.consumer.code_version for line in lines if line.state != "lost"}),
        lags=lags(),
        rejected=sum(rejected.total(list(tasks.queues)).values()),
    )


def lags() -> dict[str, Lag] | None:
    """How far the history of each queue lags behind; None while the broker is away."""
    try:
        return lag.lags(tasks.queues)
    except BrokerAway:
        return None


def start_of(count: int) -> int:
    """Where this part of the list begins."""
    text = request.args.get("start", "0")
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise BadInput("start", _("a whole number is needed"))
    return min(int(text), max(count - 1, 0)) // CONSUMERS * CONSUMERS


def line_of(consumer: WorkerProcess, as_of: datetime) -> Line:
    slots = slots_of(consumer)
    busy = sorted((slot for slot in slots if slot.job), key=lambda slot: slot.job["since"] if slot.job else "")
    return Line(consumer, consumer.state(as_of, LEASE), busy, len(busy), len(slots) - len(busy))


def in_order(lines: list[Line]) -> list[Line]:
    """The lost first, then queue by queue; an order that no sign of life changes."""
    names = list(tasks.queues)

    def sort_key(line: Line) -> tuple[bool, int, str, str]:
        consumer = line.consumer
        return (
            line.state != "lost",
            names.index(consumer.queue) if consumer.queue in names else len(names),
            consumer.host,
            consumer.id,
        )

    return sorted(lines, key=sort_key)


def slots_of(consumer: WorkerProcess) -> list[Slot]:
    """Its workers by number; those that run something and are not on record by themselves too."""
    jobs = {job["worker"]: job for job in consumer.running}
    recorded = {slot["worker"]: slot for slot in consumer.slots}
    names = {f"Worker-{number}" for number in range(1, consumer.worker_count + 1)} | set(jobs)
    return [
        Slot(name, slot.get("pid"), slot.get("rss_bytes"), slot.get("cpu_percent"), jobs.get(name))
        for name in sorted(names, key=lambda name: (len(name), name))
        for slot in [recorded.get(name, {})]
    ]


@blueprint.get("/workers/<worker_id>")
@needs("viewer")
def worker(worker_id: str) -> ResponseReturnValue:
    as_of, consumer = now(), get_worker(worker_id)
    dump, pending, broker_away = asked_of(consumer)
    return live_refresh.page(
        "queues/worker.html",
        as_of=as_of,
        lease=LEASE,
        worker=consumer,
        state=consumer.state(as_of, LEASE),
        slots=slots_of(consumer),
        heir=consumer_status.replacements(consumers.workers(), as_of).get(consumer.id),
        console_version=code_version(),
        dump=dump,
        pending=pending,
        trouble=broker_away,
    )


class Thread(NamedTuple):
    """The frames of the task's own code, the innermost at the end; and those of what carries it."""

    inner: list[tracebacks.Frame]
    outer: list[tracebacks.Frame]


@blueprint.app_template_filter("threads")
def threads(text: str) -> list[Thread]:
    """Where one worker was, thread by thread. One that runs no task is told by where it waits."""
    heading, parts = tracebacks.HEADING, []
    for part in text.split(heading):
        frames = tracebacks.parse(heading + part).frames
        task = next((at for at in range(len(frames), 0, -1) if frames[at - 1].place.startswith("engine/")), 0)
        start = task if task < len(frames) else max(task - 2, 0)
        if frames:
            parts.append(Thread(frames[start:], frames[:start]))
    return parts
