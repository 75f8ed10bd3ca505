"""Every reason why a run does not run, on a real broker: SQLite's file and Redis in turn."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from factories import create_consumer, create_run
from installation import Installation

from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import queues, runs
from engine.history import writer
from engine.models import Consumer, Run, now
from engine.monitor.diagnosis import Cause, diagnose
from engine.queues.enqueue import requested_by
from engine.queues.queue import Queue

VERA = Requester("operator", "vera")


@pytest.fixture(params=["sqlite", "redis"])
def light(request: pytest.FixtureRequest, sqlite_database: None, tmp_path: Path) -> Iterator[Queue]:
    queue = Queue("light")
    if request.param == "redis":
        queue.storage = RedisStorage("light", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)

    @queue.task()
    def read() -> str:
        return "read"

    @queue.task(rate_limit="1/m")
    def fetch() -> str:
        return "fetched"

    @queue.task(retries=1, retry_delay=60)
    def bind() -> None:
        with queue.lock_task("press"):
            pass

    yield queue
    queue.storage.close()


@pytest.fixture
def consumer(light: Queue) -> Consumer:
    """Store a live consumer with two workers. Its first worker holds the runs that this thread claims."""
    made = create_consumer("light")
    light.storage.heartbeats.record(made.id, {})
    light.set_worker_identity(made.id, "Worker-1")
    return made


def enqueue_run(queue: Queue, task: str = "read", **options: Any) -> str:
    return str(runs.run_task({"light": queue}, task, by=VERA, **options).id)


def causes(queue: Queue, run_id: str) -> list[Cause]:
    return diagnose({"light": queue}, Run.get_by_id(run_id))


def kinds(queue: Queue, run_id: str) -> list[str]:
    return [cause.kind for cause in causes(queue, run_id)]


def test_queue_that_was_never_served(light: Queue) -> None:
    (cause,) = [cause for cause in causes(light, enqueue_run(light)) if cause.kind != "ahead"]
    assert cause == ("no_worker", {"queue": "light", "wanted": True, "last": None, "state": None, "seen_at": None})


@pytest.mark.parametrize(
    ("state", "since"),
    [("lost", "beat_at"), ("stopped", "stopped_at"), ("quiet", "quiet_at")],
)
def test_queue_whose_last_consumer_is_gone_or_quiet(light: Queue, state: str, since: str) -> None:
    gone = create_consumer("light", **{since: now() - timedelta(minutes=5)})
    create_consumer("heavy")
    cause = causes(light, enqueue_run(light))[0]
    assert (cause.kind, cause.facts["state"]) == ("no_worker", state)
    assert cause.facts["last"] == f"light@app-1:{gone.pid}"
    assert cause.facts["seen_at"] == (gone.stopped_at or gone.beat_at)


@pytest.mark.usefixtures("consumer")
def test_run_with_a_free_worker_is_next(light: Queue) -> None:
    assert causes(light, enqueue_run(light)) == [Cause("next", {"queue": "light", "free": 2})]


@pytest.mark.usefixtures("consumer")
def test_paused_queue_and_task_name_requester_time_and_reason(light: Queue) -> None:
    run_id = enqueue_run(light)
    queues.pause_queue(light, by=VERA, reason="the database is moving")
    queues.pause_queue(light, task="read", by=Requester("cli", "root"))
    queue, task = causes(light, run_id)
    assert (queue.kind, queue.facts["by"], queue.facts["reason"]) == ("queue_paused", "vera", "the database is moving")
    assert now() - queue.facts["at"] < timedelta(minutes=1)
    assert (task.kind, task.facts["task"], task.facts["by"], task.facts["reason"]) == (
        "task_paused",
        "read",
        "root",
        None,
    )


def test_user_made_cause_comes_first(light: Queue) -> None:
    run_id = enqueue_run(light)
    queues.pause_queue(light, by=VERA)
    assert kinds(light, run_id)[:2] == ["queue_paused", "no_worker"]


def test_scheduled_run_states_its_due_time(light: Queue, consumer: Consumer) -> None:
    due = now() + timedelta(hours=1)
    assert causes(light, enqueue_run(light, eta=due)) == [Cause("scheduled", {"due_at": due})]


def test_overdue_run_names_a_stale_scheduler(light: Queue, consumer: Consumer) -> None:
    run_id = enqueue_run(light, eta=now() + timedelta(hours=1))
    due = now() - timedelta(minutes=2)
    Run.update(due_at=due).execute()
    looked = now() - timedelta(minutes=3)
    Consumer.update(scheduler_at=looked).execute()
    assert Cause("overdue", {"due_at": due, "looked_at": looked}) in causes(light, run_id)


def test_rate_limited_run_states_limit_and_time(light: Queue, consumer: Consumer) -> None:
    enqueue_run(light, "fetch")
    second = enqueue_run(light, "fetch")
    assert light.dequeue()
    assert light.dequeue() is None
    writer.flush_events(light)
    (cause,) = causes(light, second)
    assert (cause.kind, cause.facts["task"], cause.facts["limit"]) == ("rate_limited", "fetch", "1/m")
    assert timedelta(seconds=30) < cause.facts["due_at"] - now() <= timedelta(minutes=1)


def test_lock_held_by_another_task(light: Queue, consumer: Consumer) -> None:
    holder = enqueue_run(light)
    assert light.dequeue().id == holder
    light.storage.locks.acquire("press", "owner", consumer.id, "Worker-1", None, 30)
    failed = enqueue_run(light, "bind")
    light.set_worker_identity(consumer.id, "Worker-2")
    light.execute(light.dequeue())
    writer.flush_events(light)
    later, lock = causes(light, failed)
    assert (later.kind, later.facts["attempt"], later.facts["retries"]) == ("retry_due", 2, 1)
    assert (lock.kind, lock.facts["lock"], lock.facts["run_id"]) == ("lock_held", "press", holder)
    assert (lock.facts["task"], lock.facts["worker"]) == ("read", "Worker-1")
    light.storage.locks.release("press")
    assert causes(light, failed)[1] == Cause("lock_free", {"lock": "press"})


def test_lock_held_by_a_run_of_the_same_task(light: Queue, consumer: Consumer) -> None:
    holder = enqueue_run(light)
    assert light.dequeue().id == holder
    light.storage.locks.acquire("press", "owner", consumer.id, "Worker-1", None, 30)
    (cause,) = causes(light, enqueue_run(light))
    assert (cause.kind, cause.facts["run_id"]) == ("lock_held", holder)


def test_busy_workers_are_listed_with_their_runs(light: Queue, consumer: Consumer) -> None:
    taken = []
    for worker in ("Worker-1", "Worker-2"):
        enqueue_run(light)
        light.set_worker_identity(consumer.id, worker)
        taken.append(light.dequeue().id)
    (busy,) = causes(light, enqueue_run(light))
    assert (busy.kind, busy.facts["workers"]) == ("busy", 2)
    assert [(running["run_id"], running["task"], running["worker"]) for running in busy.facts["runs"]] == [
        (taken[0], "read", "Worker-1"), (taken[1], "read", "Worker-2"),
    ]  # fmt: skip


def test_runs_ahead_are_counted_by_priority_and_age(light: Queue, consumer: Consumer) -> None:
    first, second = enqueue_run(light), enqueue_run(light)
    urgent = enqueue_run(light, priority=2)
    assert causes(light, urgent) == [Cause("next", {"queue": "light", "free": 2})]
    assert causes(light, first)[0] == Cause("ahead", {"count": 1, "queue": "light"})
    assert causes(light, second)[0] == Cause("ahead", {"count": 2, "queue": "light"})


def test_running_run_is_reported_before_the_database_knows(light: Queue, consumer: Consumer) -> None:
    run_id = enqueue_run(light)
    light.dequeue()
    (cause,) = causes(light, run_id)
    assert (cause.kind, cause.facts["worker"]) == ("running", f"Worker-1 on {consumer.id}")
    assert cause.facts["cancelled_by"] is None
    runs.cancel_run({"light": light}, run_id, VERA)
    assert causes(light, run_id)[0].facts["cancelled_by"] == "vera"


def test_run_that_just_ended_is_not_reported_lost(light: Queue, consumer: Consumer) -> None:
    run_id = enqueue_run(light)
    light.execute(light.dequeue())
    assert kinds(light, run_id) == ["record_behind"]
    writer.flush_events(light)
    (cause,) = causes(light, run_id)
    assert (cause.kind, cause.facts["state"]) == ("ended", "succeeded")


def test_lost_message_is_reported_and_can_be_retried(light: Queue, consumer: Consumer) -> None:
    run_id = enqueue_run(light)
    writer.flush_events(light)
    light.storage.flush_all()
    assert causes(light, run_id) == [Cause("lost", {"state": "waiting"})]
    runs.retry_run({"light": light}, run_id, VERA)
    assert causes(light, run_id)[-1].kind == "next"
    assert light.dequeue().id == run_id


@pytest.mark.usefixtures("consumer")
def test_revoked_run_is_reported_and_cancelled_when_claimed(light: Queue) -> None:
    first, second = enqueue_run(light), enqueue_run(light)
    light.revoke_by_id(first)
    assert causes(light, first)[0] == Cause("cancelled", {"task": None, "until": None})
    assert "cancelled" not in kinds(light, second)
    until = (now() + timedelta(hours=1)).replace(microsecond=0)
    read = next(task_class for name, task_class in light._registry._registry.items() if name.endswith("read"))
    light.revoke_all(read, revoke_until=until)
    assert causes(light, second)[0] == Cause("cancelled", {"task": "read", "until": until})
    for run_id in (first, second):
        light.execute(light.dequeue())
        writer.flush_events(light)
        assert Run.get_by_id(run_id).state == "cancelled"


@pytest.mark.usefixtures("consumer")
def test_run_revoked_until_a_past_time_runs(light: Queue) -> None:
    run_id = enqueue_run(light)
    light.revoke_by_id(run_id, revoke_until=now() - timedelta(minutes=1))
    assert kinds(light, run_id) == ["next"]


def test_unknown_task_is_reported(light: Queue, consumer: Consumer) -> None:
    newer = Queue("light")
    newer.storage = light.storage

    @newer.task()
    def unheard() -> None:
        """A task of a release that is not installed yet."""

    with requested_by(VERA):
        run_id = newer.enqueue(unheard.s()).id
    writer.flush_events(newer)
    cause = causes(light, run_id)[0]
    assert (cause.kind, cause.facts["task"], cause.facts["workers"]) == ("task_unknown", "unheard", ["1"])


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired", "dead"])
def test_ended_run_states_its_end(sqlite_database: None, state: str) -> None:
    run = create_run(state=state, ended_at=now(), error="cancelled by vera")
    assert diagnose({}, run) == [Cause("ended", {"state": state, "at": run.ended_at, "error": "cancelled by vera"})]


def test_unknown_queue_is_reported(sqlite_database: None) -> None:
    assert diagnose({}, create_run(state="waiting", queue="old")) == [Cause("queue_unknown", {"queue": "old"})]


def test_unavailable_broker_is_reported(sqlite_database: None) -> None:
    away = Queue("light")
    away.storage = RedisStorage("light", "redis://127.0.0.1:1/0", 60)
    assert diagnose({"light": away}, create_run(state="waiting")) == [Cause("broker_away", {})]


def test_why_command_prints_the_same_causes(tmp_path: Path) -> None:
    installation = Installation(tmp_path, LANGUAGE="ru")
    assert installation.flask("migrate").returncode == 0
    run_id = installation.flask("run-task", "get_cleanup_statistics").stdout.strip()
    installation.flask("pause", "light", "--reason", "<moving>")
    output = installation.flask("why", run_id).stdout.splitlines()
    assert re.fullmatch(r"Queue light is paused by \S+, .*(now|ago) \(“<moving>”\)\.", output[0])
    assert output[1:] == ["Queue light has no worker, and the history shows none."]
    first, second = json.loads(installation.flask("why", run_id, "--json").stdout)
    assert (first["cause"], first["queue"], first["reason"]) == ("queue_paused", "light", "<moving>")
    assert datetime.fromisoformat(first["at"]).tzinfo
    assert (second["cause"], second["text"]) == ("no_worker", output[1])
    unknown = installation.flask("why", "missing")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no run with the id" in unknown.stderr
