"""The `flask` commands, run as users run them."""

import getpass
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from factories import create_consumer
from flask import Flask
from installation import Installation, in_process
from thread_worker import make_cleanup_fail, process_one_run
from waiting import wait_until

import tasks
from admin.auth.passwords import verify_password
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import release_connection
from engine.models import Run, now
from engine.monitor import status
from engine.monitor.consumers import full_worker_name
from models import AuditEntry, CreatedTable, Operator, Token, User


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Return an embedded installation, with its database bound in this process too."""
    with in_process(tmp_path) as installation:
        yield installation


def test_help_lists_every_command(installation: Installation) -> None:
    output = installation.apart.flask("--help").stdout
    for command in ("start", "migrate", "demo", "run-task", "operator", "token", "status", "inspect"):
        assert re.search(rf"^  {command}\s+\S", output, re.MULTILINE), command


@pytest.mark.parametrize("command", [("status",), ("migrate",), ("inspect", "active"), ("token", "create", "x")])
def test_invalid_setting_fails_every_command_with_one_line(
    installation: Installation, command: tuple[str, ...]
) -> None:
    result = installation.apart.flask(*command, PORT="eighty")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "dewey: PORT='eighty' must be a whole number from 1 to 65535\n"


def test_second_migration_reports_an_up_to_date_schema(installation: Installation) -> None:
    result = installation.flask("migrate")
    assert (result.returncode, result.stdout) == (0, "The schema is up to date.\n")


def test_unmigrated_database_is_reported_in_one_line(installation: Installation, tmp_path: Path) -> None:
    result = installation.apart.flask("status", DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "dewey: The database schema is outdated. Run `dewey migrate`.\n"


def test_sample_library_is_loaded_once(installation: Installation) -> None:
    loaded = installation.flask("demo")
    assert loaded.returncode == 0
    assert re.search(r"^ +[\d,]+ readers$", loaded.stdout, re.MULTILINE)
    *added, entry = AuditEntry.select()
    assert [row.action for row in added] == ["books.add"] * 3
    assert (entry.action, entry.after["readers"]) == ("library.demo", User.select().count())
    again = installation.flask("demo")
    assert (again.returncode, again.stdout) == (1, "")
    assert re.fullmatch(r"dewey: .+\n", again.stderr)


def test_sample_library_is_refused_in_adopted_tables(installation: Installation) -> None:
    CreatedTable.delete().execute()
    result = installation.flask("demo")
    assert (result.returncode, User.select().count(), AuditEntry.select().count()) == (1, 0, 0)
    assert re.fullmatch(r"dewey: .+\n", result.stderr)


# --- users and tokens ----------------------------------------------------------------------------------------


def test_new_operator_password_is_on_the_last_line(installation: Installation) -> None:
    made = installation.flask("operator", "create", "Ann@Example.org", "--role", "operator")
    assert made.returncode == 0
    operator = Operator.get()
    assert (operator.email, operator.role) == ("ann@example.org", "operator")
    assert verify_password(made.stdout.splitlines()[-1], operator.password_hash)


def test_password_is_read_from_standard_input(installation: Installation) -> None:
    typed = "correct horse battery\n"
    made = installation.flask("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin", typed=typed)
    assert (made.returncode, made.stdout) == (0, "Created a@b.c (viewer).\n")
    assert verify_password("correct horse battery", Operator.get().password_hash)


def test_empty_password_is_too_short(installation: Installation) -> None:
    result = installation.flask("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin")
    assert (result.returncode, result.stdout, Operator.select().count()) == (2, "", 0)
    assert result.stderr.startswith("dewey: password: ")


@pytest.mark.parametrize(
    ("command", "code", "expected"),
    [
        (("operator", "create", "no-address", "--role", "viewer"), 2, "dewey: email: "),
        (("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin"), 2, "dewey: password: "),
        (("operator", "create", "a@b.c", "--role", "root"), 2, "Invalid value for '--role'"),
        (("operator", "create", "a@b.c"), 2, "Missing option '--role'"),
        (
            ("operator", "create", "taken@example.org", "--role", "viewer"),
            1,
            "dewey: User taken@example.org already exists.",
        ),
        (("token", "create", "", "--role", "viewer"), 2, "dewey: name: "),
        (("token", "create", "x", "--role", "viewer", "--days", "0"), 2, "dewey: days: "),
    ],
)
def test_invalid_account_arguments_are_rejected_and_store_nothing(
    installation: Installation, command: tuple[str, ...], code: int, expected: str
) -> None:
    Operator.create(email="taken@example.org", role="viewer", password_hash="")
    result = installation.flask(*command, typed="short\n")
    assert (result.returncode, result.stdout) == (code, "")
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert (Operator.select().count(), Token.select().count(), AuditEntry.select().count()) == (1, 0, 0)


def test_new_token_is_alone_on_the_last_line(installation: Installation) -> None:
    made = installation.flask("token", "create", "uploader", "--role", "operator", "--days", "30")
    assert re.fullmatch(r"dewey_[\w-]{43}", made.stdout.splitlines()[-1])
    token = Token.get()
    assert (token.name, token.role, round((token.expires_at - now()) / timedelta(days=1))) == (
        "uploader",
        "operator",
        30,
    )


def test_command_is_audited_without_secrets(installation: Installation) -> None:
    made = installation.flask("operator", "create", "ann@example.org", "--role", "admin")
    installation.flask("token", "create", "uploader", "--role", "viewer")
    lines = [
        (entry.actor_kind, entry.actor, entry.source, entry.action, entry.target, entry.after)
        for entry in AuditEntry.select()
    ]
    me = getpass.getuser()
    assert lines == [
        ("cli", me, "cli", "operators.create", "ann@example.org", {"role": "admin"}),
        ("cli", me, "cli", "tokens.create", "uploader", {"role": "viewer", "days": None}),
    ]
    assert made.stdout.splitlines()[-1] not in str(lines)


# --- running tasks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "tasks.", "app.tasks."])
def test_run_task_accepts_every_name_of_a_task(installation: Installation, prefix: str) -> None:
    result = installation.flask("run-task", f"{prefix}get_cleanup_statistics", "hours=48")
    run = Run.get_by_id(result.stdout.strip())
    assert (run.task, run.kwargs, run.state) == ("get_cleanup_statistics", {"hours": 48}, "waiting")
    assert (run.asked_by_kind, run.asked_by) == ("cli", getpass.getuser())
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing",), "dewey: No task is named 'nothing'. List the tasks with `dewey tasks list`."),
        (("get_cleanup_statistics", "hours=many"), "dewey: hours: "),
        (("get_cleanup_statistics", "hours=1.5"), "dewey: hours: "),
        (("get_cleanup_statistics", "days=1"), "dewey: days: "),
        (("get_cleanup_statistics", "hours"), "'hours' must be KEY=VALUE"),
        (("get_cleanup_statistics", "=1"), "'=1' must be KEY=VALUE"),
        (("get_cleanup_statistics", "--wait=soon"), "Invalid value for '--wait'"),
        ((), "Missing argument 'NAME'"),
    ],
)
def test_invalid_run_task_arguments_are_rejected(
    installation: Installation, arguments: tuple[str, ...], expected: str
) -> None:
    result = installation.flask("run-task", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in result.stderr
    assert (Run.select().count(), AuditEntry.select().count()) == (0, 0)


def test_unknown_argument_error_lists_the_parameters(installation: Installation) -> None:
    result = installation.flask("run-task", "get_cleanup_statistics", "days=3")
    assert (result.returncode, result.stderr) == (
        2, "dewey: days: must be a parameter of get_cleanup_statistics: hours\n",
    )  # fmt: skip


def test_wait_for_an_unclaimed_run_times_out(installation: Installation) -> None:
    result = installation.flask("run-task", "close_abandoned_sessions", "--wait=0.3")
    assert (result.returncode, result.stdout) == (1, "")
    assert Run.get().id in result.stderr


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda storage, run_id: storage.messages.cancel(run_id, "vera"), "it is cancelled: cancelled by vera"),
        (
            lambda storage, run_id: storage.deliveries.dead_letter(
                "here", storage.deliveries.settle_and_claim("here", "W", False, "").claimed, "gone"
            ),
            "dead: gone",
        ),
    ],
)
def test_wait_ends_when_the_run_ends_without_a_result(
    app: Flask, end: Callable[[Any, str], object], expected: str
) -> None:
    def end_it() -> None:
        run_id = wait_until(lambda: (run := Run.get_or_none()) and run.id)
        end(tasks.light.storage, run_id)
        tasks.light.storage.close()
        release_connection()

    with ThreadPoolExecutor(1) as other:
        ending, began = other.submit(end_it), time.monotonic()
        result = app.test_cli_runner().invoke(args=["run-task", "get_cleanup_statistics", "--wait=60"])
        ending.result()
    assert result.exit_code == 1 and expected in result.stderr
    assert time.monotonic() - began < 30


def test_wait_prints_the_result_as_json(installation: Installation) -> None:
    with installation.consumer("light"):
        for order in (("--wait", "hours=48"), ("hours=48", "--wait"), ("hours=48", "--wait=30")):
            result = installation.flask("run-task", "get_cleanup_statistics", *order)
            assert result.returncode == 0, result.stderr
            assert json.loads(result.stdout)["period_hours"] == 48


def test_failed_run_exits_1_with_its_error(installation: Installation) -> None:
    with installation.consumer("light"):
        result = installation.flask("run-task", "get_cleanup_statistics", "hours=500", "--wait")
    assert (result.returncode, result.stdout) == (1, "")
    assert "hours must be a whole number from 1 to 168, not 500" in result.stderr


def test_failed_run_with_a_result_prints_it_and_exits_1(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    error = make_cleanup_fail(monkeypatch)
    with process_one_run():
        result = app.test_cli_runner().invoke(args=["run-task", "close_abandoned_sessions", "--wait"])
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (1, error)


# --- queries -------------------------------------------------------------------------------------------------


def test_status_exits_1_while_a_required_queue_has_no_live_worker(installation: Installation) -> None:
    result = installation.flask("status")
    assert result.returncode == 1
    lines = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    at_work = ["waiting", "scheduled", "oldest", "workers", "busy"]
    assert lines[0] == ["queue", "state", *at_work, "unread events", "lag (s)"]
    assert [line[:2] for line in lines[1:]] == [[name, "no live worker"] for name in ("heavy", "normal", "light")]
    assert len({len(line) for line in result.stdout.splitlines()}) == 1, (
        "numbers must be right-aligned with their title"
    )
    assert {line.index("no live") for line in result.stdout.splitlines()[1:]} == {result.stdout.index("state")}


def test_status_distinguishes_a_quiet_consumer_from_none(app: Flask) -> None:
    create_consumer("heavy", quiet_at=now())
    create_consumer("normal")
    result = app.test_cli_runner().invoke(args=["status"])
    states = dict(re.split(r"  +", line)[:2] for line in result.stdout.splitlines()[1:])
    assert (result.exit_code, states) == (1, {"heavy": "quiet", "normal": "live", "light": "no live worker"})
    assert status.check_readiness(tasks.queues)[:2] == [
        "no live worker on heavy: its consumer is quiet", "no live worker on light",
    ]  # fmt: skip


def test_status_exits_0_when_all_required_queues_are_live(installation: Installation) -> None:
    with installation.consumer("light"):
        settings = {"WORKERS_HEAVY": "0", "WORKERS_NORMAL": "0"}
        wait_until(lambda: installation.apart.flask("status", **settings).returncode == 0)
        result = installation.apart.flask("status", "--json", **settings)
    facts = {fact["name"]: fact for fact in json.loads(result.stdout)["queues"]}
    assert (facts["light"]["live"], facts["light"]["worker_count"], facts["heavy"]["live"]) == (True, 2, False)


def test_inspect_registered_lists_tasks_of_each_live_consumer(app: Flask) -> None:
    def inspect_registered() -> str:
        return app.test_cli_runner().invoke(args=["inspect", "registered"]).output

    assert inspect_registered() == "none\n"
    names = [full_worker_name(create_consumer("light")) for _ in range(2)]
    create_consumer("light", stopped_at=now())
    for name in names:
        assert re.search(
            rf"^{name} +close_abandoned_sessions +2 +\*/30 \* \* \* \* +3$", inspect_registered(), re.MULTILINE
        )
        assert re.search(rf"^{name} +get_cleanup_statistics +1 .* hours: int = 24$", inspect_registered(), re.MULTILINE)
    assert inspect_registered().count("close_abandoned_sessions") == len(names)


def test_inspect_json_has_the_outer_shape_of_celery(installation: Installation) -> None:
    with installation.consumer("light") as light:
        wait_until(lambda: json.loads(installation.flask("inspect", "stats", "--json").stdout))
        for what in ("active", "scheduled", "registered", "stats"):
            data = json.loads(installation.flask("inspect", what, "--json").stdout)
            (name,) = (name for name in data if re.fullmatch(rf"light@.+:{light.pid}", name))
            assert type(data[name]) is (dict if what == "stats" else list)
            assert what != "registered" or "tasks.close_abandoned_sessions" in data[name]


def test_inspect_active_lists_a_running_run_with_its_worker(installation: Installation) -> None:
    run = installation.flask("run-task", "get_cleanup_statistics", "hours=48").stdout.strip()
    broker = SqliteStorage("light", Path(installation.environment["DATA_DIR"]) / "queue.db", 60)
    broker.deliveries.settle_and_claim("host:1:abc", "Worker-1", False, "{}")
    broker.close()
    (entry,) = json.loads(installation.flask("inspect", "active", "--json").stdout)["host:1:abc"]
    assert (entry["id"], entry["args"], entry["kwargs"]) == (run, [], {"hours": 48})
    assert time.time() - entry["time_start"] < 60
    assert re.search(rf'{run} .*{{"hours": 48}} .*Worker-1', installation.flask("inspect", "active").stdout)


@pytest.mark.parametrize("what", ["active", "scheduled", "stats"])
def test_empty_inspect_prints_none(installation: Installation, what: str) -> None:
    result = installation.flask("inspect", what)
    assert (result.returncode, result.stdout) == (0, "none\n")
