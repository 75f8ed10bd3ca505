"""An upgrade loses nothing: the old release fills broker and database, and this one completes what it finds there.

The old consumer is killed while it runs tasks. Then all programs of the old release have stopped.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from browsers import UseKeys
from conftest import skip_or_fail
from consumers import KEY, ROOT, consumer, share_with_consumers
from old_release import CannotInstall, OldRelease, has_commit, install_old_release
from waiting import wait_until

import app as web
import tasks
from admin.audit_log import verify_chain
from engine.control.queues import resume_queue
from engine.control.runs import requeue_dead_run
from engine.models import Run
from engine.monitor import dead_letters

EMAIL = "admin@example.org"
HERE = Path(__file__).parent
OPTIONS = ("-k", "process", "-w", "3", "-n")


class Installed(NamedTuple):
    """An upgraded installation. `runs` are the ids of the old release's runs by name."""

    runs: dict[str, Any]
    cookie: str
    ledger: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def old_release() -> OldRelease:
    if not has_commit():  # also in CI, which may check out the newest commit alone
        pytest.skip("this checkout does not contain the old release: git fetch --unshallow")
    try:
        return install_old_release()
    except CannotInstall as reason:
        skip_or_fail(f"the old release cannot be installed: {reason}")


@pytest.fixture(params=["sqlite", "redis and postgresql"])
def installed(request: pytest.FixtureRequest, old_release: OldRelease, tmp_path: Path) -> Iterator[Installed]:
    """Fill an installation with the old release, stop it, and migrate with this one."""
    embedded = request.param == "sqlite"
    redis_url = "" if embedded else request.getfixturevalue("redis_url")
    url = f"sqlite:///{tmp_path}/dewey.db" if embedded else request.getfixturevalue("fresh_postgresql")
    environment = {"DATA_DIR": str(tmp_path), "DATABASE_URL": url, "REDIS_URL": redis_url, "SECRET_KEY": KEY}
    environment |= {"LEASE_SECONDS": "2", "MAX_DELIVERIES": "2"}
    ledger = tmp_path / "ledger"
    cookie, runs = fill(old_release, environment, ledger, tmp_path)
    with ExitStack() as stack:
        for queue in (tasks.light, tasks.normal):
            stack.enter_context(share_with_consumers(queue, tmp_path, redis_url, url))
        yield Installed(runs, cookie, ledger, environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"})


def fill(release: OldRelease, environment: dict[str, str], ledger: Path, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the cookie of a sign-in, and the runs."""
    with ExitStack() as stack:
        filling = release.start(str(HERE / "fill.py"), str(ledger), EMAIL, environment=environment, log=folder / "log")
        stack.callback(end, filling)
        cookie = read_step(filling, folder)["cookie"]
        program = ("-m", "huey.bin.huey_consumer", "upgrade_tasks.light", *OPTIONS)
        serving = release.start(*program, environment=environment, log=folder / "old-consumer.log")
        stack.callback(end, serving)
        runs = next_step(filling, folder)
        workers = psutil.Process(serving.pid).children(recursive=True)
        serving.kill()
        assert psutil.wait_procs(workers, 10)[1] == []
        runs |= next_step(filling, folder)
        filling.communicate("\n", 20)
        assert filling.returncode == 0
    return cookie, runs


def next_step(filling: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    assert filling.stdin
    filling.stdin.write("\n")
    filling.stdin.flush()
    return read_step(filling, folder)


def read_step(filling: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Return what the script has done in this step. It waits for a line before the next one."""
    assert filling.stdout
    line = filling.stdout.readline()
    assert line, (folder / "log").read_text()
    return dict(json.loads(line))


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_upgrade_loses_nothing(installed: Installed, use_keys: UseKeys) -> None:
    runs, ledger = installed.runs, installed.ledger
    expect_old_state(installed, use_keys)
    Path(f"{ledger}.repaired").touch()
    environment = installed.environment
    assert enqueue_unique(environment, ledger) == runs["unique"]
    with ExitStack() as stack:
        for name in ("light", "normal"):
            program, log = f"upgrade_tasks.{name}", ledger.with_name(f"{name}.log")
            stack.enter_context(consumer(program, *OPTIONS, environment=environment, log=log))
        completed = [run_id for name in ("done", "held", "waiting", "scheduled") for run_id in runs[name]]
        completed += [runs["retrying"], runs["unique"]]
        wait_until(lambda: count_states(completed) == {"succeeded": len(completed)}, within=60)
        wait_until(lambda: Run.get_or_none(Run.id == runs["on_normal"]))
        states = {name: Run.get_by_id(runs[name]).state for name in ("dead", "paused", "on_normal")}
        assert states == {"dead": "dead", "paused": "waiting", "on_normal": "waiting"}
        wait_until(lambda: tasks.normal.pauses()[""]["reason"] == "upgrade")
        requeue_dead_run(tasks.queues, runs["dead"])
        assert resume_queue(tasks.light, task="record_paused") and resume_queue(tasks.normal)
        completed += [runs["dead"], runs["paused"], runs["on_normal"]]
        wait_until(lambda: count_states(completed) == {"succeeded": len(completed)})
        wait_until(lambda: "end all-of-member-0-member-1" in read_ledger(ledger))
    expect_each_run_ended_once(installed)
    assert [tasks.light.result(run_id, preserve=True) for run_id in runs["held"]] == ["held-0", "held-1"]


def expect_old_state(installed: Installed, use_keys: UseKeys) -> None:
    """Sign-in, audit, pauses, results and dead runs of the old release are read before a consumer starts."""
    use_keys(KEY)
    browser = web.create_app().test_client()
    browser.set_cookie("dewey", installed.cookie)
    assert EMAIL in browser.get("/me").text
    report = verify_chain()
    assert report.rows >= 6 and report.findings == []
    assert tasks.light.pauses().keys() == {"record_paused", "schedule:close_abandoned_sessions"}
    assert tasks.normal.pauses().keys() == {""}
    results = [tasks.light.result(run_id, preserve=True) for run_id in installed.runs["done"]]
    assert results == [f"done-{number}" for number in range(20)]
    ((dead_id, message),) = tasks.light.storage.dead_letters.all()
    assert dead_id == installed.runs["dead"] and dead_letters.has_valid_signature(tasks.light, message)


def enqueue_unique(environment: dict[str, str], ledger: Path) -> str:
    """Return the id of the run that a second call of a unique task gets."""
    program = "import sys, upgrade_tasks; print(upgrade_tasks.record_once(sys.argv[1], 'unique').id)"
    command = [sys.executable, "-c", program, str(ledger)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def count_states(run_ids: list[str]) -> Counter[str]:
    return Counter(run.state for run in Run.select(Run.state).where(Run.id.in_(run_ids)))


def read_ledger(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines()


def expect_each_run_ended_once(installed: Installed) -> None:
    runs, lines = installed.runs, Counter(read_ledger(installed.ledger))
    counts = {"done": 20, "waiting": 20, "scheduled": 3}
    names = [f"{kind}-{number}" for kind, count in counts.items() for number in range(count)]
    names += ["held-0", "held-1", "member-0", "member-1", "pipeline", "after-pipeline", "all-of-member-0-member-1"]
    names += ["failed", "retrying", "unique", "dead", "paused", "on-normal"]
    assert lines == {f"end {name}": 1 for name in names} | {"start held-0": 2, "start held-1": 2}
    assert Run.select().where(Run.state == "cancelled").count() == 1
    assert Run.get_by_id(runs["failed"]).state == "failed"
    assert Run.get_by_id(runs["failed"]).error == "ValueError: failed must fail"
    assert all(Run.get_by_id(run_id).deliveries == 2 for run_id in runs["held"])
    assert Run.get_by_id(runs["retrying"]).attempts > 1
    assert Run.select().count() == len(names) + 1  # and the cancelled one
    assert verify_chain().findings == []
