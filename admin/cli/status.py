"""`dewey status`, and `dewey inspect` with the JSON of Celery's `inspect`."""

import click

import tasks
from admin.cli.output import (
    Command,
    Group,
    json_option,
    print_json,
    print_lines,
    print_listing,
    print_table,
    repeat,
    watch_option,
)
from engine.history import lag as history_lag
from engine.models import Consumer, now
from engine.monitor import celery_inspect, registered_tasks
from engine.monitor import consumers as consumer_status
from engine.monitor import status as monitor_status


@click.command(cls=Command)
@json_option
@watch_option
def status(as_json: bool, watch_every: float | None) -> None:
    """Show the queues and their workers. Exit code 1 if a queue has no live worker."""
    raise SystemExit(not repeat(lambda: show_status(as_json), watch_every))


def show_status(as_json: bool) -> bool:
    """Print the queues. False if a queue that needs a worker has no live one."""
    consumers = consumer_status.list_consumers()
    facts, lags = monitor_status.queue_statuses(tasks.queues, consumers), history_lag.load_lags(tasks.queues)
    if as_json:
        print_json({"queues": [fact._asdict() | history_text(lags[fact.name]) for fact in facts]})
    else:
        titles = ("queue", "state", "waiting", "scheduled", "oldest", "workers", "busy", "unread events", "lag (s)")
        print_table(titles, [format_queue(fact, consumers, lags[fact.name]) for fact in facts])
    for warning in monitor_status.broker_warnings(tasks.queues):
        print_lines(f"warning: {warning}", err=True)
    return not any(fact.wanted and not fact.live for fact in facts)


def history_text(lag: history_lag.Lag) -> dict[str, object]:
    return {"unread_events": lag.events, "history_lag_seconds": lag.seconds}


def format_queue(
    fact: monitor_status.QueueStatus, consumers: list[Consumer], lag: history_lag.Lag
) -> tuple[object, ...]:
    is_there = bool(consumer_status.running_consumers(consumers, fact.name))  # it may be quiet
    state = "live" if fact.live else "quiet" if is_there else "no live worker" if fact.wanted else "not wanted"
    oldest = None if fact.oldest_waiting_ms is None else f"{fact.oldest_waiting_ms / 1000:.1f} s"
    state += ", paused" if fact.paused else ""
    at_work = fact.waiting, fact.scheduled, oldest, fact.worker_count, fact.busy_count
    return fact.name, state, *at_work, lag.events, lag.seconds


@click.group("inspect", cls=Group)
def inspect_group() -> None:
    """Show what Celery's `inspect` shows. --json has the same outer shape."""


@inspect_group.command("active")
@json_option
def active(as_json: bool) -> None:
    """List running runs by consumer."""
    runs_by_consumer = celery_inspect.active(tasks.queues)
    at = now().timestamp()
    rows = [
        (run["name"], run["id"], run["args"], run["kwargs"], f"{at - run['time_start']:.1f} s", run["worker"], owner)
        for owner, runs in runs_by_consumer.items()
        for run in runs
    ]
    print_listing(runs_by_consumer, as_json, ("task", "run", "args", "kwargs", "for", "worker", "consumer"), rows)


@inspect_group.command("scheduled")
@json_option
def scheduled(as_json: bool) -> None:
    """List runs that are due later, by the consumers of their queue."""
    runs_by_consumer = celery_inspect.scheduled(tasks.queues).entries
    entries = {entry["request"]["id"]: entry for entries in runs_by_consumer.values() for entry in entries}
    rows = [(entry["eta"], run["name"], run["id"], run["args"], run["kwargs"], run["delivery_info"]["exchange"])
            for entry in entries.values() if (run := entry["request"])]  # fmt: skip
    print_listing(runs_by_consumer, as_json, ("due", "task", "run", "args", "kwargs", "queue"), rows)


@inspect_group.command("registered")
@json_option
def registered(as_json: bool) -> None:
    """List the registered tasks of each live consumer."""
    facts, consumers = registered_tasks.list_tasks(tasks.queues), consumer_status.list_consumers()
    owned = {
        consumer_status.full_worker_name(consumer): [fact for fact in facts if fact.queue == queue]
        for queue in tasks.queues
        for consumer in consumer_status.live_consumers(consumers, queue)
    }
    rows = [(owner, fact.name, fact.priority, fact.schedule, fact.retries, ", ".join(map(str, fact.parameters)))
            for owner, owned_facts in owned.items() for fact in owned_facts]  # fmt: skip
    names = {owner: [f"tasks.{fact.name}" for fact in owned_facts] for owner, owned_facts in owned.items()}
    print_listing(names, as_json, ("consumer", "task", "priority", "schedule", "retries", "parameters"), rows)


@inspect_group.command("stats")
@json_option
def stats(as_json: bool) -> None:
    """Show each consumer's pool, memory and run counts."""
    stats_by_consumer = celery_inspect.stats(tasks.queues)
    rows = [
        (owner, stats["pool"]["max-concurrency"], stats["pool"]["implementation"], stats["total"], stats["failed"],
         stats["rusage"]["rss_bytes"] >> 20, stats["rusage"]["cpu_percent"], stats["uptime"])
        for owner, stats in stats_by_consumer.items()
    ]  # fmt: skip
    print_listing(
        stats_by_consumer, as_json, ("consumer", "workers", "kind", "runs", "failed", "MB", "CPU %", "up (s)"), rows
    )
