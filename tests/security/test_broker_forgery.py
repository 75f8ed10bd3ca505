"""A writer to the broker without the key gets no further than deleting and delaying."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from budget import record_statements
from raw_entries import (
    delete_marks,
    process_all,
    put_back,
    put_cancel,
    put_heartbeat,
    put_line,
    put_pause,
    storage_factory,
    use_probe_queue,
)
from sample_tasks import echo, fail, probe, read_lines, work

from engine.broker.effects import Effects, event_json
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.signing import Purpose
from engine.control import runs
from engine.exceptions import InvalidMessage, InvalidState
from engine.history import writer
from engine.history.forged_entries import ForgedEntryCheck
from engine.history.lost_runs import LostRunCheck
from engine.models import LOST_ERROR, Attempt, HistoryCursor, RejectedEvent, Run, State, now
from engine.queues import remote_control
from engine.queues.remote_control import Command, CommandInbox
from engine.queues.replays import ReplayGuard, SharedSet, select_recorded_runs

VERA = Requester("operator", "vera@example.org")


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> Iterator[None]:
    with use_probe_queue(storage_factory(request.param, request, tmp_path)):
        probe.forged.reported.clear()
        forget_settled_runs()
        yield


def forget_settled_runs() -> None:
    """Act as a consumer that has just started."""
    probe.settler.replays = ReplayGuard(probe)


def record() -> None:
    process_all()
    writer.flush_events(probe)


def reasons() -> list[str]:
    writer.flush_events(probe)
    return [event.reason for event in RejectedEvent.select().order_by(RejectedEvent.id)]


def ended_line(run_id: str, **facts: Any) -> bytes:
    event = {
        "state": "failed", "task": "echo", "delivery": 1, "attempt": 1, "worker": "forged", "version": "v",
        "started": 1.0, "run_ms": 1.0, "wait_ms": 1.0, "result": 666, "error": "x", **facts,
    }  # fmt: skip
    return event_json("ended", run_id, time.time(), **event).encode()


# --- history -------------------------------------------------------------------------------------------------


def test_forged_run_is_neither_recorded_nor_retried() -> None:
    run_id = str(uuid4())
    enqueued = {
        "task": "echo", "args": ["FORGED"], "kwargs": {}, "priority": None, "retries": 0, "parent": None,
        "asked_by": ["operator", "admin@x.org"], "version": "v", "due": None,
    }  # fmt: skip
    put_line(event_json("enqueued", run_id, time.time(), **enqueued).encode())
    put_line(ended_line(run_id))
    for kind in ("due", "limited", "cancelled", "requeued", "returned", "lost", "noted"):
        put_line(event_json(kind, run_id, time.time(), due=1.0, by="x", progress=[1, 2, ""]).encode())
    record()
    assert Run.select().count() == 0
    assert reasons() == ["this event is not signed"] * 7
    with pytest.raises(InvalidState):
        runs.retry_run({"probe": probe}, run_id, VERA)


def test_record_of_a_real_run_is_not_overwritten() -> None:
    run_id = echo(1).id
    record()
    put_line(ended_line(run_id, delivery=2))
    signed = probe.storage.entries.sign_event(ended_line(run_id, delivery=2).decode())
    put_line(signed.replace(b"666", b"667"))
    assert len(reasons()) == 2
    assert (Run.get_by_id(run_id).state, Run.get_by_id(run_id).result) == (State.SUCCEEDED, 1)


def test_event_of_another_queue_is_refused() -> None:
    from engine.broker.signed_entries import SignedEntries

    line = SignedEntries("light").sign_event(event_json("noted", "x", time.time(), progress=[1, 2, ""]))
    put_line(line)
    assert reasons() == ["the signature does not match SECRET_KEY"]
    assert Run.select().count() == 0


def copied_lines() -> list[bytes]:
    return [bytes(line) for _, line in probe.storage.events.read(0, 100)]


def test_copied_event_changes_no_record() -> None:
    run_id = fail("/dev/null").id
    process_all()
    lines = copied_lines()
    writer.flush_events(probe)
    runs.retry_run({"probe": probe}, run_id, VERA)
    lines += [line for line in copied_lines() if line not in lines]
    record()
    before, attempts = Run.get_by_id(run_id), Attempt.select().count()
    for line in lines:
        put_line(line)
    writer.flush_events(probe)
    assert Run.get_by_id(run_id) == before
    assert Run.get_by_id(run_id).state == before.state
    assert (Run.get_by_id(run_id).attempts, Attempt.select().count()) == (before.attempts, attempts)
    assert "delivery 1 of this run is on record already" in reasons()


def test_ended_run_does_not_die_by_what_lies_under_its_id() -> None:
    run_id = echo(1).id
    record()
    put_back(probe, run_id, b"garbage")
    process_all()
    assert "this run has ended" in reasons()
    delete_marks(probe, run_id)
    put_back(probe, run_id, b"more garbage")
    assert probe.storage.messages.cancel(run_id, "vera") == "removed"
    assert reasons().count("this run has ended") == 2
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


@pytest.mark.parametrize("line", [b"\xff\xfe", b"", b"2 event - 0 - 00 {}", b'{"kind": "ended", "at": 1e18}', b"2 run"])
def test_malformed_line_does_not_stop_history(line: bytes) -> None:
    put_line(line)
    run_id = echo(1).id
    record()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED
    assert len(reasons()) == 1


def test_entry_without_its_field_does_not_stop_history() -> None:
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.command("XADD", "events", "*", "x", "y")
    run_id = echo(1).id
    record()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


def test_message_of_a_foreign_key_is_not_recorded_as_enqueued() -> None:
    echo(1)
    message = probe.storage.messages.waiting()[0]
    put_line(message.replace(b'"args":[1]', b'"args":[2]'))
    assert reasons() == ["the signature does not match SECRET_KEY"]


# --- values under another key ----------------------------------------------------------------------------------


def result_of(value: object) -> bytes:
    """Return the bytes of a result with a chosen value."""
    run_id = echo(value).id
    process_all()
    data = probe.storage.results.get(run_id)
    assert data
    return bytes(data)


@pytest.mark.parametrize(
    "value",
    [{"what": "stop", "consumer": "c", "by": "x", "number": "n", "sent_at": time.time() + 5}, "stop", [1], None, 5],
)
def test_result_is_no_command(value: object) -> None:
    for what in Command:
        probe.storage.results.put(remote_control.command_key("c", what), result_of(value))
    assert remote_control.pending_commands(probe, "c") == []
    assert CommandInbox(probe, "c").take() == []
    assert len([reason for reason in reasons() if "the order is malformed or forged" in reason]) == len(Command)


def test_command_of_another_consumer_or_kind_does_not_hold() -> None:
    remote_control.send_command(probe, "c", Command.QUIET, "vera")
    data = probe.storage.results.get(remote_control.command_key("c", Command.QUIET))
    for consumer, what in (("d", Command.QUIET), ("c", Command.STOP)):
        probe.storage.results.put(remote_control.command_key(consumer, what), data)
    assert CommandInbox(probe, "d").take() == []
    assert [order.what for order in CommandInbox(probe, "c").take()] == [Command.QUIET]


def test_command_holds_once() -> None:
    inbox, key = CommandInbox(probe, "c"), remote_control.command_key("c", Command.QUIET)
    remote_control.send_command(probe, "c", Command.QUIET, "vera")
    data = probe.storage.results.get(key)
    assert [order.by for order in inbox.take()] == ["vera"]
    probe.storage.results.put(key, data)
    assert inbox.take() == []
    remote_control.send_command(probe, "c", Command.QUIET, "vera")
    assert len(inbox.take()) == 1


@pytest.mark.parametrize("age", [61.0, -61.0])
def test_command_holds_for_a_minute(age: float) -> None:
    key = remote_control.command_key("c", Command.STOP)
    order = {"what": "stop", "by": "vera", "number": "n", "sent_at": probe.storage.clock() - age}
    remote_control.store_signed(probe, key, order)
    assert CommandInbox(probe, "c").take() == []


def test_result_is_no_stack_dump() -> None:
    probe.storage.results.put(remote_control.dump_key("c"), result_of({"at": now().isoformat(), "stacks": []}))
    assert remote_control.latest_dump(probe, "c") is None


def test_result_does_not_set_the_time_of_a_run() -> None:
    forged = result_of("2099-01-01T00:00:00+00:00")
    echo(1)
    task = probe.dequeue()
    probe.storage.results.put(f"instant:{task.id}", forged)
    instant, _ = task.run_timestamp()
    assert instant.year != 2099
    assert task.run_timestamp() == (instant, False)


def test_result_is_no_result_of_another_run_and_no_revocation() -> None:
    forged = result_of([None, False])
    run = echo(2)
    probe.storage.results.put(run.id, forged)
    with pytest.raises(InvalidMessage):
        run.get()
    delete_marks(probe, run.id)
    probe.storage.results.put(f"r:{run.id}", forged)
    process_all()
    assert run.get() == 2
    assert any("revocation" in reason for reason in reasons())


def test_heartbeat_under_another_id_is_no_consumer() -> None:
    info = {"host": "h", "pid": 1, "code_version": "v", "worker_type": "process", "worker_count": 1, "periodic": True}
    probe.storage.heartbeats.record("sound", {**info, "started_at": 1.0})
    put_heartbeat(probe, "copied", probe.storage.entries.sign(Purpose.HEARTBEAT, "sound", {**info, "started_at": 1.0}))
    put_heartbeat(probe, "plain", json.dumps({**info, "started_at": 1.0, "id": "x", "queue": "heavy"}).encode())
    rows = writer.sync_consumers(probe)
    assert rows and {beat.consumer for beat in rows if beat.info} == {"sound"}
    ForgedEntryCheck(probe).check()
    assert len([reason for reason in reasons() if "the heartbeat is malformed or forged" in reason]) == 2


def test_forged_pause_holds_without_its_author() -> None:
    put_pause(probe, "", json.dumps({"by": "admin@x.org", "kind": "operator", "at": now().isoformat()}).encode())
    assert probe.pauses()[""]["by"] == "?"
    ForgedEntryCheck(probe).check()
    assert [reason for reason in reasons() if "pause" in reason]


@pytest.mark.parametrize("line", [b"admin@x.org", b"\xff", b'{"by": "admin@x.org"}'])
def test_forged_cancel_names_no_requester(line: bytes) -> None:
    run_id = echo(1).id
    task = probe.dequeue()
    put_cancel(probe, run_id, line)
    assert probe.storage.deliveries.cancelled() == {run_id: "?"}
    probe.execute(task)
    record()
    assert (Run.get_by_id(run_id).state, Run.get_by_id(run_id).error) == (
        State.CANCELLED,
        "CancelExecution: cancelled by ?",
    )


def test_cancel_of_another_run_is_no_request() -> None:
    first, second = echo(1).id, echo(2).id
    assert probe.storage.messages.cancel(first, "vera") == "removed"
    (line,) = [line for line in copied_lines() if b"cancelled" in line]
    assert probe.dequeue()
    put_cancel(probe, second, line)
    assert probe.storage.deliveries.cancelled() == {second: "?"}


# --- settled messages that are put back --------------------------------------------------------------------------


@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_settled_message_does_not_run_again(tmp_path: Path, deletes: bool, restarts: bool) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    data = bytes(probe.storage.messages.get(run_id) or b"")
    record()
    for _ in range(3):
        if deletes:
            delete_marks(probe, run_id)
        if restarts:
            forget_settled_runs()
        put_back(probe, run_id, data)
        process_all()
    assert len(read_lines(ledger)) == 2
    assert probe.storage.messages.locate(run_id) is None
    assert "the message is malformed or forged: attempt 1 of this run has been settled" in reasons()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


def test_settled_message_does_not_run_before_its_end_is_recorded(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    data = bytes(probe.storage.messages.get(run_id) or b"")
    process_all()
    probe.storage.events.drop_oldest(0)
    delete_marks(probe, run_id)
    put_back(probe, run_id, data)
    process_all()
    assert len(read_lines(ledger)) == 2


def test_mark_in_the_broker_stops_a_message(tmp_path: Path) -> None:
    """The end is not in the history yet, where another consumer would find it."""
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    data = bytes(probe.storage.messages.get(run_id) or b"")
    process_all()
    forget_settled_runs()
    put_back(probe, run_id, data)
    process_all()
    assert len(read_lines(ledger)) == 2


def test_message_under_another_id_is_dead(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    put_back(probe, "another", bytes(probe.storage.messages.get(run_id) or b""))
    process_all()
    record()
    assert len(read_lines(ledger)) == 2
    assert probe.storage.dead_letters.count() == 1
    assert Run.get_by_id("another").error == f"this is the message of run {run_id}"
    with pytest.raises(InvalidState):
        runs.retry_run({"probe": probe}, "yet another", VERA)


def test_earlier_attempt_and_cancelled_run_do_not_run_again(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run_id, cancelled = fail(str(ledger)).id, work(str(ledger)).id
    messages = {name: bytes(probe.storage.messages.get(name) or b"") for name in (run_id, cancelled)}
    probe.storage.messages.cancel(cancelled, "vera")
    record()
    assert len(read_lines(ledger)) == 3
    for name, data in messages.items():
        delete_marks(probe, name)
        forget_settled_runs()
        put_back(probe, name, data)
        process_all()
    assert len(read_lines(ledger)) == 3


def test_retry_runs_and_its_message_does_not_run_twice(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    probe.storage.messages.cancel(run_id, "vera")
    writer.flush_events(probe)
    runs.retry_run({"probe": probe}, run_id, VERA)
    data = bytes(probe.storage.messages.get(run_id) or b"")
    forget_settled_runs()
    record()
    assert (len(read_lines(ledger)), Run.get_by_id(run_id).state) == (2, State.SUCCEEDED)
    forget_settled_runs()
    delete_marks(probe, run_id)
    put_back(probe, run_id, data)
    process_all()
    assert len(read_lines(ledger)) == 2


def test_returned_and_lost_runs_still_run(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    data = bytes(probe.storage.messages.get(run_id) or b"")
    assert probe.dequeue()
    probe.storage.deliveries.release("here", "Worker-1", "died", 5)
    writer.flush_events(probe)
    probe.storage.messages.delete_waiting()
    Run.update(enqueued_at=now().replace(year=2020)).execute()
    LostRunCheck(probe).check()
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).error == LOST_ERROR
    forget_settled_runs()
    put_back(probe, run_id, data)
    process_all()
    assert len(read_lines(ledger)) == 2


def test_messages_run_while_the_database_is_unavailable(tmp_path: Path) -> None:
    from engine.database import bind, database

    ledger, url = tmp_path / "ledger", f"sqlite:///{database.obj.database}"
    work(str(ledger))
    forget_settled_runs()
    bind(f"sqlite:///{tmp_path}/missing/no.db")
    try:
        process_all()
    finally:
        bind(url)
    assert len(read_lines(ledger)) == 2


def lookups() -> list[int]:
    """Execute what waits. Return how many runs each statement of the guard has looked up."""
    with record_statements() as sent:
        process_all()
    return [sql.rpartition("id IN (")[2].count("?") for sql in sent if "FROM dewey_runs WHERE id IN" in sql]


def test_one_statement_checks_all_waiting_messages() -> None:
    for number in range(200):
        echo(number)
    forget_settled_runs()
    assert lookups() == [200]


def test_worker_checks_its_own_message_while_another_checks_those_that_wait() -> None:
    """The other one was killed, or has not seen this message because it was claimed already."""
    for number in range(5):
        echo(number)
    forget_settled_runs()
    probe.settler.replays.lookahead_began_at[0] = time.time()
    assert lookups() == [1, 4]


def test_memory_of_the_workers_keeps_thousands_of_runs() -> None:
    memory, ids = SharedSet(), [str(uuid4()) for _ in range(5000)]
    for run_id in ids:
        memory.add(run_id, 1)
    assert sum(memory.has(run_id, 1) for run_id in ids) > 4980
    assert not any(memory.has(run_id, 2) for run_id in ids)


# --- the upgrade -------------------------------------------------------------------------------------------------


def test_only_events_from_before_the_upgrade_need_no_signature() -> None:
    from engine.history.upgrade import note_upgrade

    stream = probe.storage.events.stream()
    HistoryCursor.create(stream=stream, position=0)
    HistoryCursor.create(stream="probe:earlier", position=0)
    HistoryCursor.create(stream="light:x", position=0)
    info = {"by": "vera", "kind": "operator", "at": now().isoformat(), "reason": None}
    put_pause(probe, "echo", json.dumps(info).encode())
    before, after = str(uuid4()), str(uuid4())
    put_line(ended_line(before))
    note_upgrade(probe)
    put_line(ended_line(after))
    note_upgrade(probe)
    writer.flush_events(probe)
    assert [run.id for run in Run.select()] == [before]
    assert reasons() == ["this event is not signed"]
    assert probe.pauses()["echo"] == info
    assert HistoryCursor.get(HistoryCursor.stream == "light:x").signed_from is None
    assert HistoryCursor.get(HistoryCursor.stream == "probe:earlier").signed_from == 0


def test_new_stream_needs_signatures_from_its_beginning() -> None:
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.command("SET", "stream", "a chosen name")
    put_line(ended_line(str(uuid4())))
    assert reasons() == ["this event is not signed"]


def test_forged_values_are_one_alert_and_one_audit_entry() -> None:
    from admin.alerts.watcher import AlertWatcher
    from engine.monitor import alerts
    from models import AuditEntry

    for _ in range(5):
        put_line(b"forged")
    writer.flush_events(probe)
    watcher = AlertWatcher(lambda rule: rule.patience * 0)
    for _ in range(2):
        watcher.check(now())
    assert [(alert.rule, alert.value) for alert in alerts.open_alerts() if alert.rule == "forged"] == [("forged", 5)]
    entries = AuditEntry.select().where(AuditEntry.action == "broker.forged")
    assert [entry.after for entry in entries] == [{"count": 5}]


def test_report_is_written_once_per_value() -> None:
    for _ in range(3):
        probe.report_forged("order", "c to stop", "why")
    probe.storage.messages.write(Effects())
    assert reasons() == ["the order is malformed or forged: why"]


def test_recorded_ends_are_found_in_each_database(each_database: str) -> None:
    from factories import create_attempt, create_run

    at = now()
    ended = {"ended_at": at, "attempts": 2}
    done, lost = create_run(state="succeeded", **ended), create_run(state="failed", error=LOST_ERROR, **ended)
    thrown, dead = (
        create_run(state="dead", error=error, **ended) for error in ("discarded by vera: x", "Worker-1 died")
    )
    again, waiting = create_run(state="retrying", attempts=1), create_run(state="waiting")
    create_attempt(again, 1, "failed")
    create_attempt(again, 2, "died", attempt=2)
    runs_by_id = select_recorded_runs([run.id for run in (done, lost, thrown, dead, again, waiting)])
    assert runs_by_id == {
        done.id: (at.timestamp(), 0), lost.id: (None, 0), thrown.id: (at.timestamp(), 0), dead.id: (None, 0),
        again.id: (None, 1),
    }  # fmt: skip
