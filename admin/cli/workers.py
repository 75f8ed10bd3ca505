"""`flask queues …` and `flask workers …`: the console's pages about them, in a terminal."""

from datetime import datetime

import click

import tasks
from admin.cli import steering
from admin.cli.output import Command, Group, fail, json_option, local_admin, print_facts, print_json, print_table
from admin.cli.query import run_query
from admin.display.numbers import format_duration, format_size
from admin.operations.registry import execute
from engine.models import Consumer, now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor import consumers as consumer_status
from engine.monitor.consumers import LEASE_TIME
from engine.queues import remote_control
from engine.queues.remote_control import Dump

#: So long an answer is waited for; a consumer looks for orders twice a second.
DUMP_SECONDS = 10.0

worker_argument = click.argument("worker", metavar="WORKER")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(cls=Group)
def queues() -> None:
    """What waits, what comes next, and the broker that carries it."""


@queues.command("list")
@json_option
def list_queues(as_json: bool) -> None:
    """Every queue: what waits and since when, what comes in and goes out a minute, who serves it."""
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
    """The next runs of a queue, first to last."""
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
    print_table(("task", "run", "asked by", "since", "hindered by"), rows)


@queues.command("broker")
@json_option
def broker(as_json: bool) -> None:
    """The broker itself: version, memory or file, persistence, and how long a ping takes."""
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
    """The consumers. WORKER is an id or a name, as `flask workers list` shows them."""


@workers.command("list")
@json_option
def list_workers(as_json: bool) -> None:
    """Every consumer on record, those that are gone last."""
    if as_json:
        print_json(run_query("workers.list"))
        return
    titles = ("worker", "state", "workers", "busy", "memory", "CPU %", "runs", "failed", "code", "id")
    print_table(titles, list(map(format_worker, sorted(consumers.list_consumers(), key=sort_key))))


def sort_key(consumer: Consumer) -> int:
    return ("live", "late", "lost", "stopped").index(consumer.state(now(), LEASE_TIME))


def format_worker(consumer: Consumer) -> tuple[object, ...]:
    """What a stopped one used last is no news."""
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
    """Finish what runs, take nothing new."""
    execute(local_admin(), "workers.quiet", worker=worker)
    click.echo("It takes nothing new.")


@workers.command("wake", cls=Command)
@worker_argument
def wake(worker: str) -> None:
    """Have a quiet one take runs again."""
    execute(local_admin(), "workers.wake", worker=worker)
    click.echo("It takes runs again.")


@workers.command("stop", cls=Command)
@worker_argument
@yes_option
def stop(worker: str, yes: bool) -> None:
    """End it, once what it runs has ended or its time is up; `make run` does not start it again."""
    if not yes:
        click.confirm(f"Stop {consumers.full_worker_name(consumer_status.get_consumer(worker))}?", abort=True)
    execute(local_admin(), "workers.stop", worker=worker)
    click.echo("It stops as soon as what it runs has ended.")


@workers.command("restart", cls=Command)
@worker_argument
@yes_option
def restart(worker: str, yes: bool) -> None:
    """Start it anew, with the code that is there now."""
    if not yes:
        click.confirm(f"Restart {consumers.full_worker_name(consumer_status.get_consumer(worker))}?", abort=True)
    execute(local_admin(), "workers.restart", worker=worker)
    click.echo("It restarts. What outlasts its grace period goes back to the queue.")


@workers.command("dump", cls=Command)
@worker_argument
@json_option
def dump(worker: str, as_json: bool) -> None:
    """Where the code of its workers is right now."""
    asked_at = now()
    consumer = execute(local_admin(), "workers.dump", worker=worker)
    answer = wait_for_answer(consumer, asked_at)
    if as_json:
        print_json({"at": answer.at, "stacks": [stack._asdict() for stack in answer.stacks]})
        return
    for stack in answer.stacks:
        click.echo(f"{stack.worker} ({stack.pid}): {stack.task or 'idle'} {stack.run_id or ''}".rstrip())
        click.echo(f"{stack.text or 'no answer'}\n")


def wait_for_answer(consumer_id: str, asked_at: datetime) -> Dump:
    consumer = consumer_status.get_consumer(consumer_id)
    answer = remote_control.wait_for_dump(tasks.queues[consumer.queue], consumer.id, asked_at, DUMP_SECONDS)
    return answer or fail(f"no answer within {DUMP_SECONDS:g} s", 1)


COMMANDS = (queues, workers)
