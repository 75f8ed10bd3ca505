"""The commands on runs and queues, as an operator types them, and their audit entries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, in_process
from waiting import wait_until

import tasks
from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.models import Run
from models import AuditEntry


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with in_process(tmp_path) as place:
        yield place


def run_command(installation: Installation, *command: str, code: int = 0) -> str:
    ran = installation.flask(*command)
    assert ran.returncode == code, ran.stderr
    return ran.stdout.strip() or ran.stderr.strip()


def test_queue_is_paused_purged_and_resumed(installation: Installation) -> None:
    run_command(installation, "pause", "light", "--reason", "the database is moving")
    waiting = run_command(installation, "run-task", "get_cleanup_statistics")
    assert "paused" in run_command(installation, "status", code=1)
    assert run_command(installation, "purge", "light", "--yes") == "Waiting runs cancelled in light: 1."
    assert Run.get_by_id(waiting).state == "cancelled"
    assert run_command(installation, "resume", "light") == "Queue light resumed."
    assert run_command(installation, "resume", "light") == "Queue light was not paused."
    assert run_command(installation, "pause", "nowhere", code=2)
    assert [entry.action for entry in AuditEntry.select().order_by(AuditEntry.id)] == [
        "queues.pause", "tasks.run", "queues.purge", "queues.resume", "queues.resume",
    ]  # fmt: skip
    assert AuditEntry.get(AuditEntry.action == "queues.pause").after == {"reason": "the database is moving"}


def test_second_pause_without_a_reason_keeps_the_first_reason(installation: Installation) -> None:
    run_command(installation, "pause", "light", "--reason", "the database is moving")
    before = load_pauses(installation)
    assert run_command(installation, "pause", "light") == "Queue light is paused. Resume it with `dewey resume light`."
    assert load_pauses(installation) == before and before[""]["reason"] == "the database is moving"
    run_command(installation, "pause", "light", "--reason", "and now the broker")
    assert load_pauses(installation)[""]["reason"] == "and now the broker"


def load_pauses(installation: Installation) -> dict[str, dict[str, str]]:
    path = Path(installation.environment["DATA_DIR"]) / "queue.db"
    storage = SqliteStorage("light", path, 60, serializer=tasks.light.serializer)
    try:
        return storage.pauses.all()
    finally:
        storage.close()


def test_unknown_id_is_reported(installation: Installation) -> None:
    for command in ("cancel", "retry"):
        assert "No run with this id." in run_command(installation, command, "nonsense", code=1)


def test_purge_asks_for_confirmation(installation: Installation) -> None:
    run_command(installation, "run-task", "get_cleanup_statistics")
    refused = installation.flask("purge", "light", typed="n\n")
    assert refused.returncode == 1
    assert "Cancel the waiting runs in light (1)?" in refused.stdout
    assert Run.select().where(Run.state == "waiting").count() == 1


def test_waiting_run_is_cancelled_and_retried_under_its_id(installation: Installation) -> None:
    run_id = run_command(installation, "run-task", "get_cleanup_statistics", "hours=12")
    assert run_command(installation, "cancel", run_id) == f"Run {run_id} cancelled before it started."
    assert "Only a waiting or running run can be cancelled" in run_command(installation, "cancel", run_id, code=1)
    assert run_command(installation, "retry", run_id) == f"Run {run_id} re-queued."
    assert "Only a run that has ended" in run_command(installation, "retry", run_id, code=1)
    with installation.consumer("light"):
        run = wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == "succeeded")))
    assert run.result["period_hours"] == 12


def test_dead_letters_are_listed_requeued_and_discarded(installation: Installation) -> None:
    storage = SqliteStorage("light", installation.folder / "queue.db", 60)
    storage.messages.write(Effects().enqueue("garbage", b"garbage"))
    with installation.consumer("light"):
        wait_until(lambda: Run.get_or_none((Run.id == "garbage") & (Run.state == "dead")))
        assert "not a message of this program" in run_command(installation, "dead", "list")
        assert '"raw": "garbage"' in run_command(installation, "dead", "show", "garbage", "--json")
        run_command(installation, "dead", "requeue", "garbage")
        wait_until(lambda: Run.get_or_none((Run.id == "garbage") & (Run.state == "dead") & (Run.deliveries == 2)))
    assert run_command(installation, "dead", "discard", "garbage", "--yes") == "Dead run garbage discarded."
    assert run_command(installation, "dead", "list") == "none"
    assert "No dead run" in run_command(installation, "dead", "discard", "garbage", "--yes", code=1)


def test_unsafe_redis_settings_are_warned_about(redis_url: str) -> None:
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
