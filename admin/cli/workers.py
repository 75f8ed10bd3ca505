"""`dewey queues` and `dewey workers`."""

from datetime import datetime

import click

import tasks
from admin.cli import steering
from admin.cli.output import (
    Command,
    Group,
    fail,
    json_option,
    local_admin,
    print_facts,
    print_json,
    print_lines,
    print_table,
)
from admin.cli.query import run_query
from admin.display.numbers import format_duration, format_size
from admin.operations.registry import execute
from engine.models import Consumer, now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor import consumers as consumer_status
from engine.monitor.consumers import LEASE_TIME
from engine.queues import remote_control
from engine.queues.remote_control import Dump

#: Longest wait for a stack dump. A consumer polls for requests twice a second.
DUMP_SECONDS = 10.0

worker_argument = click.argument("worker", metavar="WORKER")
yes_option = click.option("--yes", is_flag=True, help="Skip the confirmation.")


@click.group(cls=Group)
def queues() -> None:
    """List, pause, resume and purge queues, and check the broker."""


@queues.command("list")
@json_option
def list_queues(as_json: bool) -> None:
    """List queues with their waiting runs, throughput and workers."""
    answer = run_query("queues.list")
    if as_json:
        print_json(answer)
        return
    titles = ("queue", "waiting", "oldest", "in/min", "out/min", "scheduled", "workers", "busy", "paused")
    rows = [
        (row["name"], row["waiting"], row["oldest_waiting_ms"] and format_duration(row["oldest_waiting_ms"]),
         row["in_per_minute"], row["out_per_minute"], row["scheduled"], row["worker_count"], row["busy_count"],
         row["paused"] and row["paused"]["by"])
        for row in answer["queues"]
    ]  # fmt: skip
    print_table(titles, rows)


@queues.command("head")
@steering.queue_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True)
@json_option
def head(queue: str, limit: int, as_json: bool) -> None:
    """List the next runs of a queue in order."""
    if as_json:
        print_json(run_query("queues.head", {"queue": queue}, {"limit": limit}))
        return
    facts = status.queue_status(tasks.queues[queue], consumers.live_consumers(consumers.list_consumers(), queue))
    next_runs = queue_contents.next_runs(tasks.queues[queue], facts, limit)
    rows = [
        (run.task, run.run_id, run.asked_by and run.asked_by.name, run.since,
         run.unreadable or run.hindrance)
        for run in next_runs
    ]  # fmt: skip
    print_table(("task", "run", "requested by", "since", "held by"), rows)


@queues.command("broker")
@json_option
def broker(as_json: bool) -> None:
    """Show the broker's version, memory or file, persistence and ping time."""
    health = broker_health.check_health(next(iter(tasks.queues.values())))._asdict()
    if as_json:
        print_json(health)
    else:
        print_facts(health)


for command in (steering.pause, steering.resume, steering.purge):
    queues.add_command(command)


# --- workers -------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def workers() -> None:
    """Manage consumers. WORKER is an id or a name from `dewey workers list`."""


@workers.command("list")
@json_option
def list_workers(as_json: bool) -> None:
    """List consumers, stopped and lost ones last."""
    if as_json:
        print_json(run_query("workers.list"))
        return
    titles = ("worker", "state", "workers", "busy", "memory", "CPU %", "runs", "failed", "code", "id")
    print_table(titles, list(map(format_worker, sorted(consumers.list_consumers(), key=sort_key))))


def sort_key(consumer: Consumer) -> int:
    return ("live", "late", "lost", "stopped").index(consumer.state(now(), LEASE_TIME))


def format_worker(consumer: Consumer) -> tuple[object, ...]:
    """Return the columns of a row. A stopped consumer has no usage figures."""
    use: tuple[object, ...] = (len(consumer.running), format_size(consumer.rss_bytes), consumer.cpu_percent)
    use = (None,) * 3 if consumer.stopped_at else use
    return (
        consumers.full_worker_name(consumer), worker_state(consumer), consumer.worker_count, *use, consumer.processed,
        consumer.failed, consumer.code_version, consumer.id,
    )  # fmt: skip


def worker_state(consumer: Consumer) -> str:
    state = consumer.state(now(), LEASE_TIME)
    return f"{state}, quiet" if consumer.quiet_at and state in ("live", "late") else state


@workers.command("quiet", cls=Command)
@worker_argument
def quiet(worker: str) -> None:
    """Quiet a consumer: it finishes running tasks and takes no new ones."""
    execute(local_admin(), "workers.quiet", worker=worker)
    print_lines(f"Consumer {worker} is quiet: it finishes running tasks and takes no new ones.")


@workers.command("wake", cls=Command)
@worker_argument
def wake(worker: str) -> None:
    """Wake a quiet consumer: it takes tasks again."""
    execute(local_admin(), "workers.wake", worker=worker)
    print_lines(f"Consumer {worker} takes tasks again.")


@workers.command("stop", cls=Command)
@worker_argument
@yes_option
def stop(worker: str, yes: bool) -> None:
    """Stop a consumer after its running tasks or the grace period. `make run` does not restart it."""
    if not yes:
        click.confirm(f"Stop {consumers.full_worker_name(consumer_status.get_consumer(worker))}?", abort=True)
    execute(local_admin(), "workers.stop", worker=worker)
    print_lines(f"Consumer {worker} stops once its running tasks finish.")


@workers.command("restart", cls=Command)
@worker_argument
@yes_option
def restart(worker: str, yes: bool) -> None:
    """Restart a consumer with the current code."""
    if not yes:
        click.confirm(f"Restart {consumers.full_worker_name(consumer_status.get_consumer(worker))}?", abort=True)
    execute(local_admin(), "workers.restart", worker=worker)
    print_lines(f"Consumer {worker} restarts. Tasks still running after the grace period return to the queue.")


@workers.command("dump", cls=Command)
@worker_argument
@json_option
def dump(worker: str, as_json: bool) -> None:
    """Show a stack dump of a consumer's workers."""
    asked_at = now()
    consumer = execute(local_admin(), "workers.dump", worker=worker)
    answer = wait_for_answer(consumer, asked_at)
    if as_json:
        print_json({"at": answer.at, "stacks": [stack._asdict() for stack in answer.stacks]})
        return
    for stack in answer.stacks:
        print_lines(f"{stack.worker} ({stack.pid}): {stack.task or 'idle'} {stack.run_id or ''}".rstrip())
        print_lines(*(stack.text or "no answer").expandtabs(4).splitlines(), "")


def wait_for_answer(consumer_id: str, asked_at: datetime) -> Dump:
    consumer = consumer_status.get_consumer(consumer_id)
    answer = remote_control.wait_for_dump(tasks.queues[consumer.queue], consumer.id, asked_at, DUMP_SECONDS)
    return answer or fail(
        f"consumer did not send a stack dump within {DUMP_SECONDS:g} s. Check it with `dewey workers list`.", 1
    )


COMMANDS = (queues, workers)
