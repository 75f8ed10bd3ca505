"""The commands that steer, as an operator types them, and the audit line of each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, in_process
from waiting import wait_until

from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.models import Run
from models import AuditEntry


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    with in_process(tmp_path) as place:
        yield place


def done(place: Installation, *command: str, code: int = 0) -> str:
    ran = place.flask(*command)
    assert ran.returncode == code, ran.stderr
    return ran.stdout.strip() or ran.stderr.strip()


def test_a_queue_is_paused_purged_and_resumed(place: Installation) -> None:
    done(place, "pause", "light", "--reason", "the database is moving")
    waiting = done(place, "run-task", "get_cleanup_statistics")
    assert "paused" in done(place, "status", code=1)
    assert done(place, "purge", "light", "--yes") == "1 cancelled."
    assert Run.get_by_id(waiting).state == "cancelled"
    assert done(place, "resume", "light") == "light goes on."
    assert done(place, "resume", "light") == "light was not paused."
    assert done(place, "pause", "nowhere", code=2)
    assert [entry.action for entry in AuditEntry.select().order_by(AuditEntry.id)] == [
        "queues.pause", "tasks.run", "queues.purge", "queues.resume", "queues.resume",
    ]  # fmt: skip
    assert AuditEntry.get(AuditEntry.action == "queues.pause").after == {"reason": "the database is moving"}


def test_pausing_once_more_without_a_reason_keeps_the_one_there_is(place: Installation) -> None:
    done(place, "pause", "light", "--reason", "the database is moving")
    before = tasks_paused(place)
    assert done(place, "pause", "light") == "light is paused."
    assert tasks_paused(place) == before and before[""]["reason"] == "the database is moving"
    done(place, "pause", "light", "--reason", "and now the broker")
    assert tasks_paused(place)[""]["reason"] == "and now the broker"


def tasks_paused(place: Installation) -> dict[str, dict[str, str]]:
    storage = SqliteStorage("light", Path(place.environment["DATA_DIR"]) / "queue.db", 60)
    try:
        return storage.pauses.all()
    finally:
        storage.close()


def test_an_id_that_nobody_knows_is_said_to_be_one(place: Installation) -> None:
    for command in ("cancel", "retry"):
        assert "There is no run of this id on record." in done(place, command, "nonsense", code=1)


def test_purging_asks_first(place: Installation) -> None:
    done(place, "run-task", "get_cleanup_statistics")
    refused = place.flask("purge", "light", typed="n\n")
    assert refused.returncode == 1
    assert "Cancel 1 waiting in light?" in refused.stdout
    assert Run.select().where(Run.state == "waiting").count() == 1


def test_a_waiting_run_is_cancelled_and_retried_under_its_id(place: Installation) -> None:
    run_id = done(place, "run-task", "get_cleanup_statistics", "hours=12")
    assert done(place, "cancel", run_id) == "It will not run."
    assert "neither waits nor runs" in done(place, "cancel", run_id, code=1)
    assert done(place, "retry", run_id) == "It is back in its queue."
    assert "Only a run that has ended" in done(place, "retry", run_id, code=1)
    with place.consumer("light"):
        run = wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == "succeeded")))
    assert run.result["period_hours"] == 12


def test_the_dead_are_listed_put_back_and_discarded(place: Installation) -> None:
    storage = SqliteStorage("light", place.folder / "queue.db", 60)
    storage.messages.write(Effects().enqueue("garbage", b"garbage"))
    with place.consumer("light"):
        wait_until(lambda: Run.get_or_none((Run.id == "garbage") & (Run.state == "dead")))
        assert "not a message of this program" in done(place, "dead", "list")
        assert '"raw": "garbage"' in done(place, "dead", "show", "garbage", "--json")
        done(place, "dead", "requeue", "garbage")
        wait_until(lambda: Run.get_or_none((Run.id == "garbage") & (Run.state == "dead") & (Run.deliveries == 2)))
    assert done(place, "dead", "discard", "garbage", "--yes") == "Discarded."
    assert done(place, "dead", "list") == "none"
    assert "no dead run" in done(place, "dead", "discard", "garbage", "--yes", code=1)


def test_a_redis_that_may_lose_or_leak_work_is_warned_of(redis_url: str) -> None:
    broker = RedisStorage("light", redis_url, 60)
    assert broker.warnings() == ["Redis keeps no append-only file: a restart loses accepted work"]
    broker.client.redis.config_set("maxmemory", "1gb")
    broker.client.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "Redis may evict accepted work (maxmemory-policy allkeys-lru)" in broker.warnings()
    finally:
        broker.client.redis.config_set("maxmemory", "0")
        broker.client.redis.config_set("maxmemory-policy", "noeviction")
    broker.client.redis.connection_pool.connection_kwargs["host"] = "redis.example.org"
    assert "Redis is reached over the network without a password" in broker.warnings()
