"""Values of a wrong type in queue.db, and missing tables, do not stop a queue, its pages or its history."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_entries import storage_factory, use_probe_queue
from sample_tasks import echo, probe

from engine.broker.sqlite.database import TABLE
from engine.exceptions import BrokerUnavailable
from engine.history import writer
from engine.history.forged_entries import ForgedEntryCheck
from engine.history.lag import load_lags
from engine.models import Run, State

VALUES = ("5", "2.5", "9e999", "'x'", "x'ff'")
ROW = {
    "queue": "'probe'", "id": "'foreign'", "task": "'echo'", "attempt": "1", "data": "x'ff'", "score": "1",
    "since": "1", "due": "1", "uniq": "NULL", "cancel": "NULL", "deliveries": "0", "deaths": "0", "consumer": "'c'",
    "worker": "'w'", "held_at": "1", "missing": "NULL", "met": "NULL", "met_at": "NULL",
}  # fmt: skip
STATES = ("waiting", "scheduled", "held", "dead")


@pytest.fixture(autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> Iterator[None]:
    with use_probe_queue(storage_factory("sqlite", request, tmp_path)):
        yield


def put_row(table: str, **columns: str) -> None:
    names, values = ", ".join(columns), ", ".join(columns.values())
    probe.storage.database.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({values})")


def use_everything() -> None:
    """Do what workers, recorder, scheduler and pages do."""
    storage, run_id = probe.storage, echo(1).id
    storage.messages.enqueue_due(10)
    for _ in range(30):  # a message that cannot be executed is no task
        if storage.messages.locate(run_id) and (task := probe.dequeue()):
            probe.execute(task)
    for _ in range(3):
        storage.deliveries.reap(0, 5)
    writer.sync_consumers(probe)
    ForgedEntryCheck(probe).check()
    writer.flush_events(probe)
    for read in (
        storage.messages.waiting, storage.messages.scheduled, storage.messages.oldest_waiting, storage.dead_letters.all,
        storage.deliveries.held, storage.deliveries.cancelled, storage.locks.all, storage.ticks.last, probe.pauses,
        storage.heartbeats.all, lambda: storage.dead_letters.ids(100), lambda: load_lags({"probe": probe}),
    ):  # fmt: skip
        read()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


@pytest.mark.parametrize("column", [name for name in ROW if name != "queue"])
def test_message_with_a_wrong_type_stops_no_other(column: str) -> None:
    for number, (state, value) in enumerate((state, value) for state in STATES for value in VALUES):
        put_row("message", **{**ROW, "id": f"'foreign-{number}'", "state": f"'{state}'", column: value})
    use_everything()


@pytest.mark.parametrize("value", VALUES)
def test_other_rows_of_a_wrong_type_stop_nothing(value: str) -> None:
    put_row("pause", queue="'probe'", target=value, info=value)
    put_row("consumer", queue="'probe'", id=value, at=value, info=value)
    put_row("tick", queue="'probe'", task=value, minute=value)
    put_row("lock", queue="'probe'", name=value, owner=value, consumer=value, worker=value)
    put_row("event", queue="'probe'", data=value)
    put_row("start", queue="'probe'", task="'echo'", at=value)
    put_row("kv", queue="'probe'", key=value, value=value, expires=value)
    put_row("spent", queue="'probe'", id=value, attempt=value, expires=value)
    use_everything()


@pytest.mark.parametrize("table", ["message", "event", "kv", "pause"])
def test_missing_table_is_made_again(table: str) -> None:
    assert table in TABLE.findall(probe.storage.database.schema)
    probe.storage.database.execute(f"DROP TABLE {table}")
    with pytest.raises(BrokerUnavailable):
        probe.storage.database.query(f"SELECT * FROM {table}")
    use_everything()
