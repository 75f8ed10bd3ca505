"""Orders to real consumers: quiet, wake, stop, restart and stack dump."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from consumers import ConsumerProcess, consumer, share_with_consumers
from sample_tasks import echo, hold, probe, read_lines, release, spin
from waiting import wait_until

from engine.broker.messages import SignedJSON
from engine.history import writer
from engine.models import Consumer, Run, now
from engine.monitor import consumers
from engine.queues import remote_control
from engine.queues.remote_control import Command, Dump


@pytest.fixture(params=["sqlite", "redis"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of consumers that share their broker and database with this process."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    with share_with_consumers(probe, tmp_path, redis_url) as environment:
        yield environment


@pytest.fixture
def serving(environment: dict[str, str], tmp_path: Path) -> Iterator[ConsumerProcess]:
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        yield running


def consumer_row(running: ConsumerProcess) -> Consumer:
    return wait_until(lambda: Consumer.get_or_none(pid=running.pid))


def send_command(running: ConsumerProcess, what: Command) -> None:
    remote_control.send_command(probe, consumer_row(running).id, what, "vera@example.org")


def test_quiet_consumer_finishes_its_run_and_claims_no_other(serving: ConsumerProcess, tmp_path: Path) -> None:
    first = hold(str(tmp_path / "ledger"))
    wait_until(lambda: read_lines(tmp_path / "ledger"))
    send_command(serving, Command.QUIET)
    quiet = wait_until(lambda: (row := consumer_row(serving)).quiet_at and row)
    assert consumers.live_consumers(consumers.list_consumers(), "probe") == []
    assert [row.id for row in consumers.running_consumers(consumers.list_consumers(), "probe")] == [quiet.id]
    second = echo("later")
    release(tmp_path / "ledger")
    assert first.get(blocking=True, timeout=25) == "done"
    wait_until(lambda: Run.get_or_none((Run.id == first.id) & (Run.state == "succeeded")))
    assert probe.pending_count() == 1
    send_command(serving, Command.WAKE)
    assert second.get(blocking=True, timeout=25) == "later"
    wait_until(lambda: not consumer_row(serving).quiet_at)


def test_stopped_consumer_finishes_its_task_and_deregisters(serving: ConsumerProcess, tmp_path: Path) -> None:
    result = hold(str(tmp_path / "ledger"))
    wait_until(lambda: read_lines(tmp_path / "ledger"))
    send_command(serving, Command.STOP)
    serving.logged("running task(s)")
    release(tmp_path / "ledger")
    assert serving.process.wait(30) == 0
    assert result.get(blocking=True, timeout=25) == "done"
    assert wait_until(lambda: consumer_row(serving).stopped_at)
    assert "Command from vera@example.org: stop" in serving.log


def test_restarted_consumer_returns_as_a_new_one(serving: ConsumerProcess) -> None:
    before = consumer_row(serving)
    send_command(serving, Command.RESTART)
    after = wait_until(lambda: Consumer.get_or_none((Consumer.pid == serving.pid) & (Consumer.id != before.id)))
    assert after.started_at > before.started_at
    assert echo("again").get(blocking=True, timeout=25) == "again"
    assert Consumer.get_by_id(before.id).stopped_at


def test_stop_overrides_restart(serving: ConsumerProcess) -> None:
    send_command(serving, Command.RESTART)
    send_command(serving, Command.STOP)
    assert serving.process.wait(30) == 0


def test_busy_workers_dump_their_stacks_even_in_a_tight_loop(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    sleeping, spinning = hold(str(ledger)), spin(str(ledger))
    wait_until(lambda: len(read_lines(ledger)) == 2)
    dump = request_dump(serving)
    by_run = {stack.run_id: stack for stack in dump.stacks}
    assert "in hold" in by_run[sleeping.id].text
    assert by_run[sleeping.id].task == "hold"
    assert "re.match" in by_run[spinning.id].text
    assert {stack.pid for stack in dump.stacks} < {process.pid for process in serving.children()}
    release(ledger)
    assert sleeping.get(blocking=True, timeout=25) == "done"
    again = request_dump(serving)
    assert "in hold" not in next(stack for stack in again.stacks if stack.run_id is None).text


def request_dump(running: ConsumerProcess) -> Dump:
    asked_at = now()
    send_command(running, Command.DUMP)
    dump = remote_control.wait_for_dump(probe, consumer_row(running).id, asked_at, 20)
    assert dump
    assert remote_control.pending_commands(probe, consumer_row(running).id) == []
    return dump


def test_parent_and_new_worker_survive_sigquit(serving: ConsumerProcess) -> None:
    """The signal may arrive before they handle it. The dump is then in the log."""
    os.kill(serving.pid, signal.SIGQUIT)
    assert "most recent call first" in serving.logged("most recent call first")
    assert echo("alive").get(blocking=True, timeout=25) == "alive"


def test_worker_rows_have_memory_and_cpu_use(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    spin(str(ledger))
    [[_, pid]] = wait_until(lambda: read_lines(ledger))

    def busy() -> Consumer | None:
        row = consumer_row(serving)
        return row if any(slot["cpu_percent"] > 10 for slot in row.slots) else None

    row = wait_until(busy)
    assert [slot["worker"] for slot in row.slots] == ["Worker-1", "Worker-2"]
    hot, idle = sorted(row.slots, key=lambda slot: -slot["cpu_percent"])
    assert hot["pid"] == int(pid)
    assert idle["cpu_percent"] < 10
    assert all(10_000_000 < slot["rss_bytes"] < row.rss_bytes for slot in row.slots)


def test_command_with_a_foreign_signature_is_ignored(serving: ConsumerProcess) -> None:
    row = consumer_row(serving)
    key = remote_control.command_key(row.id, Command.STOP)
    order = {"what": "stop", "by": "x", "number": "n", "sent_at": time.time()}
    forged = SignedJSON("x" * 40).serialize_value("probe", key, order)
    another = probe.sign_value(remote_control.command_key("another", Command.STOP), order)
    for data in (forged, another, b"nonsense"):
        probe.storage.results.put(key, data)
        assert remote_control.pending_commands(probe, row.id) == []
    send_command(serving, Command.QUIET)
    wait_until(lambda: consumer_row(serving).quiet_at)
    assert serving.process.poll() is None


def test_dead_consumer_is_forgotten_after_a_day(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each check of the broker would restore its row after pruning."""
    facts = {"host": "gone", "pid": 1, "code_version": "1", "worker_type": "process", "worker_count": 1}
    probe.storage.heartbeats.record("gone:1:x", {**facts, "periodic": True, "started_at": 1.0})
    writer.sync_consumers(probe)
    assert Consumer.get_by_id("gone:1:x")
    monkeypatch.setattr(Consumer, "RETENTION", timedelta(0))
    writer.sync_consumers(probe)
    assert probe.storage.heartbeats.all() == []
