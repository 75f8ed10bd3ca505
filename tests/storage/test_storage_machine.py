"""The storage alone, under random steps of producers, schedulers, workers and operators, on both brokers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from storage_machine import StorageMachine

from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage

#: Derandomised. Failures are not shrunk, which may take minutes.
SHORT = settings(
    max_examples=60,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(params=["sqlite", "redis"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> type[StorageMachine]:
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else ""

    class Machine(StorageMachine):
        def connect(self, name: str) -> Any:
            if redis_url:
                return RedisStorage(name, redis_url, 600)
            return SqliteStorage(name, tmp_path / "queue.db", 600)

    return Machine


def test_no_message_is_gained_or_lost_in_any_order_of_operations(machine: type[StorageMachine]) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
