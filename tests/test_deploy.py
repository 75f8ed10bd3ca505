"""A rolling deploy with real consumers of two versions: no run is lost, and outdated consumers are shown."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsers import RunFlask, sign_in_browser
from consumers import KEY, ConsumerProcess, consumer
from databases import bound_to_library
from flask import Flask
from sample_tasks import read_lines
from waiting import wait_until

import tasks
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.history import writer
from engine.models import Consumer, Run
from engine.queues import claim
from engine.queues.queue import Queue
from engine.version import host_name


@pytest.fixture(params=["sqlite", "redis and postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of consumers that share their broker and database with this process."""
    embedded = request.param == "sqlite"
    redis_url = "" if embedded else request.getfixturevalue("redis_url")
    url = f"sqlite:///{tmp_path}/dewey.db" if embedded else request.getfixturevalue("postgresql_library")
    with bound_to_library(url):
        yield {"DATA_DIR": str(tmp_path), "DATABASE_URL": url, "REDIS_URL": redis_url, "SECRET_KEY": KEY}


@pytest.fixture
def producer(environment: dict[str, str]) -> Iterator[Queue]:
    """Return the queue as a program of the later version has it."""
    queue = Queue("probe")
    queue.serializer = type(queue.serializer)(KEY)
    if url := environment["REDIS_URL"]:
        queue.storage = RedisStorage("probe", url, 60, serializer=queue.serializer)
    else:
        queue.storage = SqliteStorage(
            "probe", Path(environment["DATA_DIR"]) / "queue.db", 60, serializer=queue.serializer
        )

    def newcomer(ledger: str, number: int) -> None: ...

    def echo(value: Any) -> None: ...

    for function, module in ((newcomer, "newer_sample_tasks"), (echo, "sample_tasks")):
        function.__module__ = module
        queue.task()(function)
    yield queue
    queue.storage.close()


def task(queue: Queue, name: str, *args: Any) -> Any:
    return next(task_class for task_class in queue._registry._registry.values() if task_class.__name__ == name)(args)


def start(stack: ExitStack, address: str, version: str, environment: dict[str, str], **options: str) -> ConsumerProcess:
    log = Path(environment["DATA_DIR"]) / f"{version}.log"
    settings = {**environment, "DEWEY_VERSION": version, **options}
    return stack.enter_context(consumer(address, environment=settings, log=log))


def states() -> Counter[str]:
    return Counter(run.state for run in Run.select())


def test_rolling_deploy_loses_no_run(producer: Queue, environment: dict[str, str], tmp_path: Path) -> None:
    ledger, many = str(tmp_path / "ledger"), 60
    with ExitStack() as stack:
        before = [start(stack, "sample_tasks.probe", f"before-{number}", environment) for number in range(2)]
        known_runs = producer.enqueue_many(task(producer, "echo", number) for number in range(many))
        unknown = producer.enqueue_many(task(producer, "newcomer", ledger, number) for number in range(many))
        later_runs = producer.enqueue_many(task(producer, "echo", number) for number in range(many))
        wait_until(lambda: states() == {"succeeded": 2 * many, "scheduled": many})
        waiting = Run.get_by_id(unknown[0].id)
        assert re.fullmatch(
            rf"probe@{re.escape(host_name())} runs before-[01], which does not know this task; restart it",
            waiting.error,
        )
        assert read_lines(ledger) == []
        after = start(stack, "newer_sample_tasks.probe", "after", environment)
        late = producer.enqueue_many(task(producer, "newcomer", ledger, number) for number in range(many, 2 * many))
        for old_consumer in before:
            assert old_consumer.stop() == 0
        wait_until(lambda: states() == {"succeeded": 4 * many})
        assert sorted(int(number) for _, number, _ in read_lines(ledger)) == list(range(2 * many)), (
            "each task must run once"
        )
        assert [run.get(blocking=True, timeout=5) for run in (*unknown, *late)] == list(range(2 * many))
        assert {Run.get_by_id(run.id).attempts for run in (*known_runs, *unknown, *later_runs, *late)} == {1}
        assert all(old_consumer.log.count("waits for newer code") <= 2 * many for old_consumer in before)
        assert "waits for newer code" not in after.log
    assert producer.storage.dead_letters.count() == producer.storage.messages.count_scheduled() == 0


def test_unknown_task_is_dead_after_the_grace_and_names_the_old_consumer(
    producer: Queue, environment: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        start(stack, "sample_tasks.probe", "86ec2c3", environment, UNKNOWN_TASK_GRACE="2")
        run = producer.enqueue(task(producer, "newcomer", "nowhere", 1))
        wait_until(lambda: states() == {"scheduled": 1})
        wait_until(lambda: states() == {"dead": 1})
        reason = f"probe@{host_name()} runs 86ec2c3, which does not know this task; restart it"
        assert Run.get_by_id(run.id).error == reason
        started = Consumer.get().started_at
        assert (Run.get_by_id(run.id).ended_at - started).total_seconds() < 15


# --- pages ---------------------------------------------------------------------------------------------------


def create_rescheduled_run() -> str:
    """Store a run of a known task that a consumer with older code has rescheduled."""
    run_id = str(tasks.get_cleanup_statistics(hours=7).id)
    older = Queue("light")
    older.storage, older.serializer = tasks.light.storage, tasks.light.serializer
    older.set_worker_identity("app-1:77:abcdef", "Worker-1")
    assert older.claimer.decode_task(older.claimer.claim()) is None
    writer.flush_events(older)
    return run_id


@pytest.fixture
def put_off(app: Flask, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(claim, "code_version", lambda: "86ec2c3")
    return create_rescheduled_run()


@pytest.fixture
def dead(app: Flask, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(claim, "settings", dataclasses.replace(claim.settings, unknown_task_grace=0))
    monkeypatch.setattr(claim, "code_version", lambda: "86ec2c3")
    return create_rescheduled_run()


MESSAGE = f"light@{host_name()} runs 86ec2c3, which does not know this task; restart it"


def test_why_and_run_json_name_the_outdated_consumer(put_off: str, app: Flask, flask: RunFlask) -> None:
    with app.app_context():  # for its sentence, which a template has
        assert "runs code 86ec2c3, which lacks this task. Restart the consumer." in flask("why", put_off)
        assert '"cause": "older_code"' in flask("why", put_off, "--json")
    output = flask("runs", "show", put_off, "--json")
    assert f'"error": "{MESSAGE}"' in output and '"state": "scheduled"' in output and '"state": "put_off"' in output
    assert f'"error": "{MESSAGE}"' in flask("runs", "list", "--json")


def test_pages_name_the_outdated_consumer(put_off: str, app: Flask, flask: RunFlask) -> None:
    operator = sign_in_browser(app, "operator")
    page = " ".join(re.sub(r"<[^>]*>", " ", operator.get(f"/runs/{put_off}").text).split())
    assert (
        f"light@{host_name()} runs code 86ec2c3, which lacks this task. Restart the consumer. The run is dead if"
        in page
    )
    assert "Put off: the consumer has no such task" in page
    assert "Waiting for a consumer that has the task" in page
    assert 'href="/workers/app-1:77:abcdef"' in operator.get(f"/runs/{put_off}").text
    assert MESSAGE in operator.get("/runs").text
    in_russian = operator.get(f"/runs/{put_off}", headers={"Accept-Language": "ru"}).text
    assert "Перезапустите консьюмер" in in_russian


def test_dead_letter_names_the_outdated_consumer(dead: str, app: Flask, flask: RunFlask) -> None:
    operator = sign_in_browser(app, "operator")
    for page in ("/dead", f"/dead/{dead}", f"/runs/{dead}"):
        assert MESSAGE in operator.get(page).text
    assert MESSAGE in flask("dead", "list")
    flask("dead", "requeue", dead)
    assert Run.get_by_id(dead).state == "waiting"
