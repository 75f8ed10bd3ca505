"""Why is it not running? Every cause, from a real broker: SQLite's file and Redis in turn."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from installation import Installation
from library import consumer_of, run

from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import queues, runs
from engine.history import writer
from engine.models import Run, WorkerProcess, now
from engine.monitor.diagnosis import Cause, why
from engine.queues.enqueue import asked_by
from engine.queues.queue import Queue

VERA = Requester("operator", "vera")


@pytest.fixture(params=["sqlite", "redis"])
def light(request: pytest.FixtureRequest, library: None, tmp_path: Path) -> Iterator[Queue]:
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
def consumer(light: Queue) -> WorkerProcess:
    """One on record that is alive, with two workers; what this thread takes from the queue is held by its first."""
    made = consumer_of("light")
    light.storage.heartbeats.record(made.id, {})
    light.set_worker_identity(made.id, "Worker-1")
    return made


def asked(queue: Queue, task: str = "read", **options: Any) -> str:
    return str(runs.run_task({"light": queue}, task, by=VERA, **options).id)


def causes(queue: Queue, run_id: str) -> list[Cause]:
    return why({"light": queue}, Run.get_by_id(run_id))


def kinds(queue: Queue, run_id: str) -> list[str]:
    return [one.kind for one in causes(queue, run_id)]


def test_a_queue_that_nobody_has_ever_served(light: Queue) -> None:
    (cause,) = [one for one in causes(light, asked(light)) if one.kind != "ahead"]
    assert cause == ("no_worker", {"queue": "light", "wanted": True, "last": None, "state": None, "seen_at": None})


@pytest.mark.parametrize(
    ("state", "since"),
    [("lost", "beat_at"), ("stopped", "stopped_at"), ("quiet", "quiet_at")],
)
def test_a_queue_whose_last_consumer_is_gone_or_quiet(light: Queue, state: str, since: str) -> None:
    gone = consumer_of("light", **{since: now() - timedelta(minutes=5)})
    consumer_of("heavy")
    cause = causes(light, asked(light))[0]
    assert (cause.kind, cause.facts["state"]) == ("no_worker", state)
    assert cause.facts["last"] == f"light@app-1:{gone.pid}"
    assert cause.facts["seen_at"] == (gone.stopped_at or gone.beat_at)


@pytest.mark.usefixtures("consumer")
def test_a_free_worker_stands_in_nobodys_way(light: Queue) -> None:
    assert causes(light, asked(light)) == [Cause("next", {"queue": "light", "free": 2})]


@pytest.mark.usefixtures("consumer")
def test_a_paused_queue_and_a_paused_task_tell_by_whom_since_when_and_why(light: Queue) -> None:
    run_id = asked(light)
    queues.pause(light, by=VERA, reason="the database is moving")
    queues.pause(light, task="read", by=Requester("cli", "root"))
    queue, task = causes(light, run_id)
    assert (queue.kind, queue.facts["by"], queue.facts["reason"]) == ("queue_paused", "vera", "the database is moving")
    assert now() - queue.facts["at"] < timedelta(minutes=1)
    assert (task.kind, task.facts["task"], task.facts["by"], task.facts["reason"]) == (
        "task_paused",
        "read",
        "root",
        None,
    )


def test_more_than_one_cause_is_told_the_one_that_somebody_made_first(light: Queue) -> None:
    run_id = asked(light)
    queues.pause(light, by=VERA)
    assert kinds(light, run_id)[:2] == ["queue_paused", "no_worker"]


def test_what_is_meant_for_later(light: Queue, consumer: WorkerProcess) -> None:
    due = now() + timedelta(hours=1)
    assert causes(light, asked(light, eta=due)) == [Cause("scheduled", {"due_at": due})]


def test_what_is_due_and_forgotten_by_the_clock(light: Queue, consumer: WorkerProcess) -> None:
    run_id = asked(light, eta=now() + timedelta(hours=1))
    due = now() - timedelta(minutes=2)
    Run.update(due_at=due).execute()
    looked = now() - timedelta(minutes=3)
    WorkerProcess.update(scheduler_at=looked).execute()
    assert Cause("overdue", {"due_at": due, "looked_at": looked}) in causes(light, run_id)


def test_what_is_put_off_by_the_rate_of_its_task(light: Queue, consumer: WorkerProcess) -> None:
    asked(light, "fetch")
    second = asked(light, "fetch")
    assert light.dequeue()
    assert light.dequeue() is None
    writer.write_down(light)
    (cause,) = causes(light, second)
    assert (cause.kind, cause.facts["task"], cause.facts["limit"]) == ("rate_limited", "fetch", "1/m")
    assert timedelta(seconds=30) < cause.facts["due_at"] - now() <= timedelta(minutes=1)


def test_a_lock_that_somebody_else_has(light: Queue, consumer: WorkerProcess) -> None:
    holder = asked(light)
    assert light.dequeue().id == holder
    light.storage.locks.acquire("press", "owner", consumer.id, "Worker-1", None, 30)
    failed = asked(light, "bind")
    light.set_worker_identity(consumer.id, "Worker-2")
    light.execute(light.dequeue())
    writer.write_down(light)
    later, lock = causes(light, failed)
    assert (later.kind, later.facts["attempt"], later.facts["retries"]) == ("retry_due", 2, 1)
    assert (lock.kind, lock.facts["lock"], lock.facts["run_id"]) == ("lock_held", "press", holder)
    assert (lock.facts["task"], lock.facts["worker"]) == ("read", "Worker-1")
    light.storage.locks.release("press")
    assert causes(light, failed)[1] == Cause("lock_free", {"lock": "press"})


def test_a_lock_that_a_run_of_the_same_task_has(light: Queue, consumer: WorkerProcess) -> None:
    holder = asked(light)
    assert light.dequeue().id == holder
    light.storage.locks.acquire("press", "owner", consumer.id, "Worker-1", None, 30)
    (cause,) = causes(light, asked(light))
    assert (cause.kind, cause.facts["run_id"]) == ("lock_held", holder)


def test_workers_that_are_all_busy_and_with_what(light: Queue, consumer: WorkerProcess) -> None:
    taken = []
    for worker in ("Worker-1", "Worker-2"):
        asked(light)
        light.set_worker_identity(consumer.id, worker)
        taken.append(light.dequeue().id)
    (busy,) = causes(light, asked(light))
    assert (busy.kind, busy.facts["workers"]) == ("busy", 2)
    assert [(one["run_id"], one["task"], one["worker"]) for one in busy.facts["runs"]] == [
        (taken[0], "read", "Worker-1"), (taken[1], "read", "Worker-2"),
    ]  # fmt: skip


def test_how_many_are_ahead_of_it_by_priority_and_age(light: Queue, consumer: WorkerProcess) -> None:
    first, second = asked(light), asked(light)
    urgent = asked(light, priority=2)
    assert causes(light, urgent) == [Cause("next", {"queue": "light", "free": 2})]
    assert causes(light, first)[0] == Cause("ahead", {"count": 1, "queue": "light"})
    assert causes(light, second)[0] == Cause("ahead", {"count": 2, "queue": "light"})


def test_what_runs_says_so_though_the_record_may_not_know_yet(light: Queue, consumer: WorkerProcess) -> None:
    run_id = asked(light)
    light.dequeue()
    (cause,) = causes(light, run_id)
    assert (cause.kind, cause.facts["worker"]) == ("running", f"Worker-1 on {consumer.id}")
    assert cause.facts["cancelled_by"] is None
    runs.cancel({"light": light}, run_id, VERA)
    assert causes(light, run_id)[0].facts["cancelled_by"] == "vera"


def test_what_has_just_ended_is_not_mistaken_for_lost(light: Queue, consumer: WorkerProcess) -> None:
    run_id = asked(light)
    light.execute(light.dequeue())
    assert kinds(light, run_id) == ["record_behind"]
    writer.write_down(light)
    (cause,) = causes(light, run_id)
    assert (cause.kind, cause.facts["state"]) == ("ended", "succeeded")


def test_a_message_that_the_broker_has_lost_is_said_so_and_can_be_made_anew(
    light: Queue, consumer: WorkerProcess
) -> None:
    run_id = asked(light)
    writer.write_down(light)
    light.storage.flush_all()
    assert causes(light, run_id) == [Cause("lost", {"state": "waiting"})]
    runs.retry({"light": light}, run_id, VERA)
    assert causes(light, run_id)[-1].kind == "next"
    assert light.dequeue().id == run_id


@pytest.mark.usefixtures("consumer")
def test_what_code_has_cancelled_is_dropped_by_the_worker_that_takes_it(light: Queue) -> None:
    first, second = asked(light), asked(light)
    light.revoke_by_id(first)
    assert causes(light, first)[0] == Cause("cancelled", {"task": None, "until": None})
    assert "cancelled" not in kinds(light, second)
    until = (now() + timedelta(hours=1)).replace(microsecond=0)
    read = next(one for name, one in light._registry._registry.items() if name.endswith("read"))
    light.revoke_all(read, revoke_until=until)
    assert causes(light, second)[0] == Cause("cancelled", {"task": "read", "until": until})
    for run_id in (first, second):
        light.execute(light.dequeue())
        writer.write_down(light)
        assert Run.get_by_id(run_id).state == "cancelled"


@pytest.mark.usefixtures("consumer")
def test_what_was_cancelled_for_a_time_that_is_over_runs(light: Queue) -> None:
    run_id = asked(light)
    light.revoke_by_id(run_id, revoke_until=now() - timedelta(minutes=1))
    assert kinds(light, run_id) == ["next"]


def test_a_task_that_this_program_does_not_know(light: Queue, consumer: WorkerProcess) -> None:
    newer = Queue("light")
    newer.storage = light.storage

    @newer.task()
    def unheard() -> None:
        """Of a release that is not here yet."""

    with asked_by(VERA):
        run_id = newer.enqueue(unheard.s()).id
    writer.write_down(newer)
    cause = causes(light, run_id)[0]
    assert (cause.kind, cause.facts["task"], cause.facts["workers"]) == ("task_unknown", "unheard", ["1"])


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired", "dead"])
def test_what_has_ended_says_how(library: None, state: str) -> None:
    one = run(state=state, ended_at=now(), error="cancelled by vera")
    assert why({}, one) == [Cause("ended", {"state": state, "at": one.ended_at, "error": "cancelled by vera"})]


def test_a_queue_that_this_program_does_not_have(library: None) -> None:
    assert why({}, run(state="waiting", queue="old")) == [Cause("queue_unknown", {"queue": "old"})]


def test_a_broker_that_is_away(library: None) -> None:
    away = Queue("light")
    away.storage = RedisStorage("light", "redis://127.0.0.1:1/0", 60)
    assert why({"light": away}, run(state="waiting")) == [Cause("broker_away", {})]


def test_the_terminal_gives_the_same_answer(tmp_path: Path) -> None:
    place = Installation(tmp_path, LANGUAGE="ru")
    assert place.flask("migrate").returncode == 0
    run_id = place.flask("run-task", "get_cleanup_statistics").stdout.strip()
    place.flask("pause", "light", "--reason", "<moving>")
    told = place.flask("why", run_id).stdout.splitlines()
    assert re.fullmatch(r"The queue light is paused: \S+ did that .*(now|ago) \(“<moving>”\)\.", told[0])
    assert told[1:] == ["Nobody serves the queue light: no worker is on record."]
    first, second = json.loads(place.flask("why", run_id, "--json").stdout)
    assert (first["cause"], first["queue"], first["reason"]) == ("queue_paused", "light", "<moving>")
    assert datetime.fromisoformat(first["at"]).tzinfo
    assert (second["cause"], second["text"]) == ("no_worker", told[1])
    unknown = place.flask("why", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no run has this id" in unknown.stderr
