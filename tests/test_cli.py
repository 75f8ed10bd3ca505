"""The commands of `flask`, run as their user runs them."""

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
from flask import Flask
from inline_worker import make_cleanup_fail, one_run_worked_off
from installation import Installation, in_process
from library import consumer_of
from waiting import wait_until

import tasks
from admin.auth.passwords import matches
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import release
from engine.models import Run, now
from engine.monitor import status
from engine.monitor.consumers import worker_name
from models import AuditEntry, Operator, OwnTable, Token, User


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Embedded, with its database bound here too, to look into."""
    with in_process(tmp_path) as installation:
        yield installation


def test_every_command_is_told_by_help(installation: Installation) -> None:
    told = installation.apart.flask("--help").stdout
    for command in ("start", "migrate", "demo", "run-task", "operator", "token", "status", "inspect"):
        assert re.search(rf"^  {command}\s+\S", told, re.MULTILINE), command


@pytest.mark.parametrize("command", [("status",), ("migrate",), ("inspect", "active"), ("token", "create", "x")])
def test_a_bad_setting_ends_every_command_with_one_line(installation: Installation, command: tuple[str, ...]) -> None:
    asked = installation.apart.flask(*command, PORT="eighty")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == "dewey: PORT='eighty' cannot be used: a whole number from 1 to 65535 is allowed\n"


def test_migrating_again_changes_nothing(installation: Installation) -> None:
    asked = installation.flask("migrate")
    assert (asked.returncode, asked.stdout) == (0, "The schema is up to date.\n")


def test_a_database_that_was_never_migrated_is_one_clear_line(installation: Installation, tmp_path: Path) -> None:
    asked = installation.apart.flask("status", DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr == "dewey: The database lacks a table of this program; `flask migrate` makes it.\n"


def test_the_sample_library_is_loaded_once(installation: Installation) -> None:
    loaded = installation.flask("demo")
    assert loaded.returncode == 0
    assert re.search(r"^ +[\d,]+ readers$", loaded.stdout, re.MULTILINE)
    (entry,) = AuditEntry.select()
    assert (entry.action, entry.after["readers"]) == ("library.demo", User.select().count())
    again = installation.flask("demo")
    assert (again.returncode, again.stdout) == (1, "")
    assert re.fullmatch(r"dewey: .+\n", again.stderr)


def test_the_sample_library_is_not_loaded_beside_other_peoples_tables(installation: Installation) -> None:
    OwnTable.delete().execute()
    asked = installation.flask("demo")
    assert (asked.returncode, User.select().count(), AuditEntry.select().count()) == (1, 0, 0)
    assert re.fullmatch(r"dewey: .+\n", asked.stderr)


# --- people and tokens ---------------------------------------------------------------------------------------


def test_a_new_operator_gets_a_password_on_the_last_line(installation: Installation) -> None:
    made = installation.flask("operator", "create", "Ann@Example.org", "--role", "operator")
    assert made.returncode == 0
    operator = Operator.get()
    assert (operator.email, operator.role) == ("ann@example.org", "operator")
    assert matches(made.stdout.splitlines()[-1], operator.password_hash)


def test_a_password_may_come_from_standard_input(installation: Installation) -> None:
    typed = "correct horse battery\n"
    made = installation.flask("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin", typed=typed)
    assert (made.returncode, made.stdout) == (0, "a@b.c may sign in as viewer.\n")
    assert matches("correct horse battery", Operator.get().password_hash)


def test_an_empty_password_is_too_short_a_one(installation: Installation) -> None:
    asked = installation.flask("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin")
    assert (asked.returncode, asked.stdout, Operator.select().count()) == (2, "", 0)
    assert asked.stderr.startswith("dewey: password: ")


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("operator", "create", "nobody", "--role", "viewer"), 2, "dewey: email: "),
        (("operator", "create", "a@b.c", "--role", "viewer", "--password-stdin"), 2, "dewey: password: "),
        (("operator", "create", "a@b.c", "--role", "root"), 2, "Invalid value for '--role'"),
        (("operator", "create", "a@b.c"), 2, "Missing option '--role'"),
        (("operator", "create", "taken@example.org", "--role", "viewer"), 1, "dewey: There is an operator taken@"),
        (("token", "create", "", "--role", "viewer"), 2, "dewey: name: "),
        (("token", "create", "x", "--role", "viewer", "--days", "0"), 2, "dewey: days: "),
    ],
)
def test_a_person_or_token_that_cannot_be_is_refused(
    installation: Installation, command: tuple[str, ...], code: int, told: str
) -> None:
    Operator.create(email="taken@example.org", role="viewer", password_hash="")
    asked = installation.flask(*command, typed="short\n")
    assert (asked.returncode, asked.stdout) == (code, "")
    assert told in asked.stderr
    assert "Traceback" not in asked.stderr
    assert (Operator.select().count(), Token.select().count(), AuditEntry.select().count()) == (1, 0, 0)


def test_a_new_token_is_alone_on_the_last_line(installation: Installation) -> None:
    made = installation.flask("token", "create", "uploader", "--role", "operator", "--days", "30")
    assert re.fullmatch(r"dewey_[\w-]{43}", made.stdout.splitlines()[-1])
    token = Token.get()
    assert (token.name, token.role, round((token.expires_at - now()) / timedelta(days=1))) == (
        "uploader",
        "operator",
        30,
    )


def test_what_a_command_does_is_in_the_audit_without_secrets(installation: Installation) -> None:
    made = installation.flask("operator", "create", "ann@example.org", "--role", "admin")
    installation.flask("token", "create", "uploader", "--role", "viewer")
    lines = [(one.actor_kind, one.actor, one.source, one.action, one.target, one.after) for one in AuditEntry.select()]
    me = getpass.getuser()
    assert lines == [
        ("cli", me, "cli", "operators.create", "ann@example.org", {"role": "admin"}),
        ("cli", me, "cli", "tokens.create", "uploader", {"role": "viewer", "days": None}),
    ]
    assert made.stdout.splitlines()[-1] not in str(lines)


# --- running tasks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "tasks.", "app.tasks."])
def test_a_run_is_enqueued_under_any_of_its_names(installation: Installation, prefix: str) -> None:
    asked = installation.flask("run-task", f"{prefix}get_cleanup_statistics", "hours=48")
    run = Run.get_by_id(asked.stdout.strip())
    assert (run.task, run.kwargs, run.state) == ("get_cleanup_statistics", {"hours": 48}, "waiting")
    assert (run.asked_by_kind, run.asked_by) == ("cli", getpass.getuser())
    assert (asked.returncode, asked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "dewey: there is no task named 'nothing'"),
        (("get_cleanup_statistics", "hours=many"), "dewey: hours: "),
        (("get_cleanup_statistics", "hours=1.5"), "dewey: hours: "),
        (("get_cleanup_statistics", "days=1"), "dewey: days: "),
        (("get_cleanup_statistics", "hours"), "'hours' is not key=value"),
        (("get_cleanup_statistics", "=1"), "'=1' is not key=value"),
        (("get_cleanup_statistics", "--wait=soon"), "Invalid value for '--wait'"),
        ((), "Missing argument 'NAME'"),
    ],
)
def test_a_run_that_cannot_be_is_refused_by_name(
    installation: Installation, arguments: tuple[str, ...], told: str
) -> None:
    asked = installation.flask("run-task", *arguments)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert told in asked.stderr
    assert (Run.select().count(), AuditEntry.select().count()) == (0, 0)


def test_an_argument_that_a_task_does_not_know_is_answered_with_those_it_does(installation: Installation) -> None:
    asked = installation.flask("run-task", "get_cleanup_statistics", "days=3")
    assert (asked.returncode, asked.stderr) == (
        2, "dewey: days: get_cleanup_statistics has no such parameter; it has hours\n",
    )  # fmt: skip


def test_waiting_for_a_run_that_nobody_takes_ends_in_time(installation: Installation) -> None:
    asked = installation.flask("run-task", "close_abandoned_sessions", "--wait=0.3")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert Run.get().id in asked.stderr


@pytest.mark.parametrize(
    ("end", "told"),
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
def test_waiting_for_a_run_ends_when_it_ends_without_a_result(
    app: Flask, end: Callable[[Any, str], object], told: str
) -> None:
    def end_it() -> None:
        run_id = wait_until(lambda: (run := Run.get_or_none()) and run.id)
        end(tasks.light.storage, run_id)
        tasks.light.storage.close()
        release()

    with ThreadPoolExecutor(1) as other:
        ending, began = other.submit(end_it), time.monotonic()
        asked = app.test_cli_runner().invoke(args=["run-task", "get_cleanup_statistics", "--wait=60"])
        ending.result()
    assert asked.exit_code == 1 and told in asked.stderr
    assert time.monotonic() - began < 30


def test_waiting_prints_the_result_as_json(installation: Installation) -> None:
    with installation.consumer("light"):
        for order in (("--wait", "hours=48"), ("hours=48", "--wait"), ("hours=48", "--wait=30")):
            asked = installation.flask("run-task", "get_cleanup_statistics", *order)
            assert asked.returncode == 0, asked.stderr
            assert json.loads(asked.stdout)["period_hours"] == 48


def test_a_run_that_failed_is_exit_code_1_and_its_error(installation: Installation) -> None:
    with installation.consumer("light"):
        asked = installation.flask("run-task", "get_cleanup_statistics", "hours=500", "--wait")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "hours must be a whole number from 1 to 168, not 500" in asked.stderr


def test_a_failure_that_left_a_result_prints_it_and_is_exit_code_1(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    error = make_cleanup_fail(monkeypatch)
    with one_run_worked_off():
        asked = app.test_cli_runner().invoke(args=["run-task", "close_abandoned_sessions", "--wait"])
    assert (asked.exit_code, json.loads(asked.stdout)["error"]) == (1, error)


# --- asking --------------------------------------------------------------------------------------------------


def test_the_status_is_no_while_a_wanted_queue_has_no_live_worker(installation: Installation) -> None:
    asked = installation.flask("status")
    assert asked.returncode == 1
    lines = [re.split(r"  +", line) for line in asked.stdout.splitlines()]
    at_work = ["waiting", "scheduled", "oldest", "workers", "busy"]
    assert lines[0] == ["queue", "state", *at_work, "unread events", "lag (s)"]
    assert [line[:2] for line in lines[1:]] == [[name, "no live worker"] for name in ("heavy", "normal", "light")]
    assert len({len(line) for line in asked.stdout.splitlines()}) == 1, "numbers end where their title ends"
    assert {line.index("no live") for line in asked.stdout.splitlines()[1:]} == {asked.stdout.index("state")}


def test_a_quiet_consumer_is_told_from_none(app: Flask) -> None:
    consumer_of("heavy", quiet_at=now())
    consumer_of("normal")
    asked = app.test_cli_runner().invoke(args=["status"])
    states = dict(re.split(r"  +", line)[:2] for line in asked.stdout.splitlines()[1:])
    assert (asked.exit_code, states) == (1, {"heavy": "quiet", "normal": "live", "light": "no live worker"})
    assert status.readiness(tasks.queues)[:2] == [
        "no live worker on heavy: its consumer is quiet", "no live worker on light",
    ]  # fmt: skip


def test_the_status_is_yes_when_all_that_is_wanted_lives(installation: Installation) -> None:
    with installation.consumer("light"):
        wanted = {"WORKERS_HEAVY": "0", "WORKERS_NORMAL": "0"}
        wait_until(lambda: installation.apart.flask("status", **wanted).returncode == 0)
        asked = installation.apart.flask("status", "--json", **wanted)
    facts = {fact["name"]: fact for fact in json.loads(asked.stdout)["queues"]}
    assert (facts["light"]["live"], facts["light"]["worker_count"], facts["heavy"]["live"]) == (True, 2, False)


def test_what_each_live_consumer_has_registered_is_told_with_schedule_and_parameters(app: Flask) -> None:
    def told() -> str:
        return app.test_cli_runner().invoke(args=["inspect", "registered"]).output

    assert told() == "none\n"
    names = [worker_name(consumer_of("light")) for _ in range(2)]
    consumer_of("light", stopped_at=now())
    for name in names:
        assert re.search(rf"^{name} +close_abandoned_sessions +2 +\*/30 \* \* \* \* +3$", told(), re.MULTILINE)
        assert re.search(rf"^{name} +get_cleanup_statistics +1 .* hours: int = 24$", told(), re.MULTILINE)
    assert told().count("close_abandoned_sessions") == len(names)


def test_json_keeps_the_outer_shape_of_celerys_inspect(installation: Installation) -> None:
    with installation.consumer("light") as light:
        wait_until(lambda: json.loads(installation.flask("inspect", "stats", "--json").stdout))
        for what in ("active", "scheduled", "registered", "stats"):
            told = json.loads(installation.flask("inspect", what, "--json").stdout)
            (mine,) = (name for name in told if re.fullmatch(rf"light@.+:{light.pid}", name))
            assert type(told[mine]) is (dict if what == "stats" else list)
            assert what != "registered" or "tasks.close_abandoned_sessions" in told[mine]


def test_a_run_being_executed_is_told_with_its_worker(installation: Installation) -> None:
    run = installation.flask("run-task", "get_cleanup_statistics", "hours=48").stdout.strip()
    broker = SqliteStorage("light", Path(installation.environment["DATA_DIR"]) / "queue.db", 60)
    broker.deliveries.settle_and_claim("host:1:abc", "Worker-1", False, "{}")
    broker.close()
    (entry,) = json.loads(installation.flask("inspect", "active", "--json").stdout)["host:1:abc"]
    assert (entry["id"], entry["args"], entry["kwargs"]) == (run, [], {"hours": 48})
    assert time.time() - entry["time_start"] < 60
    assert re.search(rf'{run} .*{{"hours": 48}} .*Worker-1', installation.flask("inspect", "active").stdout)


@pytest.mark.parametrize("what", ["active", "scheduled", "stats"])
def test_where_there_is_nothing_the_listing_says_so(installation: Installation, what: str) -> None:
    asked = installation.flask("inspect", what)
    assert (asked.returncode, asked.stdout) == (0, "none\n")
