"""Secret arguments reach the task and nothing else: no page, export, log, search, audit, database or broker."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
import redis
from browsers import RunFlask, bearer_headers, sign_in_browser
from consumers import consumer, share_with_consumers
from flask import Flask
from huey.exceptions import TaskException
from secret_tasks import MARKS, OPTIONS, PASSWORD, SHELF, open_box, read_ledger, receive, vault

import tasks
from config import settings
from engine.broker.messages import Requester, SignedJSON
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import batch, runs
from engine.control.retention import prune
from engine.exceptions import InvalidState
from engine.history import writer
from engine.models import ErrorGroup, Run, now
from engine.monitor.celery_inspect import scheduled
from engine.monitor.queue_contents import next_runs
from engine.monitor.status import queue_status
from engine.queues.enqueue import unique_name
from engine.queues.options import InvalidOption
from engine.queues.queue import Queue
from engine.queues.sealed_arguments import SealedArguments
from engine.secret_arguments import SecretParameters, is_secret_name, mask_names, split_call
from engine.secret_texts import hide_secrets, mask_text
from models import AuditEntry

PIN = 904417
CALL = (PASSWORD, SHELF, OPTIONS, PIN)
VERA = Requester("operator", "vera")


def leaks(*texts: object) -> list[str]:
    """Return the marks of secrets in these texts, with what stands around them."""
    whole = "\n".join(map(str, texts))
    return [whole[max(at.start() - 60, 0) : at.end() + 20] for at in re.finditer("|".join(MARKS), whole)]


@pytest.fixture
def box(sqlite_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """Make the queue of `secret_tasks` one of the program's, with a broker of its own."""
    monkeypatch.setitem(tasks.queues, "vault", vault)
    monkeypatch.setattr(vault, "storage", SqliteStorage("vault", tmp_path / "queue.db", 60, read_timeout=0.05))
    yield vault
    vault.storage.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def execute_all(queue: Queue = vault) -> None:
    """Execute what waits, and write the history."""
    while (task := queue.dequeue()) is not None:
        queue.execute(task)
    writer.flush_events_now(queue)


def dump(file: Path) -> str:
    """Return the content of an SQLite file."""
    with sqlite3.connect(file) as connection:
        return "\n".join(connection.iterdump())


# --- nowhere to be found -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_secret_is_found_nowhere(app: Flask, box: Queue, ledger: Path, tmp_path: Path, fails: bool) -> None:
    admin, bearer = sign_in_browser(app, "admin"), bearer_headers("admin")
    by_name = {"password": PASSWORD, "shelf": SHELF, "options": OPTIONS, "pin": PIN, "fails": fails}
    run_id = open_box(str(ledger), *CALL, fails).id
    answer = admin.post(
        "/api/v1/admin/tasks/open_box/run", json={"args": [str(ledger)], "arguments": by_name}, headers=bearer
    )
    assert answer.status_code == 200, answer.text
    assert (
        leaks(dump(tmp_path / "queue.db"), next_runs(vault, queue_status(vault, [])), scheduled({"vault": vault})) == []
    )
    execute_all()
    assert read_ledger(ledger) == [list(CALL)] * 2

    run = Run.get_by_id(run_id)
    masked = {"apiKey": "***", "hosts": [{"dsn": "***", "port": 5432}], "tries": 3}
    assert (run.state, run.args) == (
        "failed" if fails else "succeeded",
        [str(ledger), "***", "***", masked, "***", fails],
    )
    assert ("***" in run.error) if fails else run.result == {"tried": ["***", {"***": "***"}], "hosts": masked["hosts"]}
    group = ErrorGroup.get_or_none()
    values = {"run_id": run_id, "name": "open_box", "task": "open_box", "group_id": group and group.id, "entry_id": 1}
    pages = list(all_pages(app, values))
    assert len(pages) > 60
    assert {url: found for url in pages if (found := leaks(admin.get(url, headers=bearer_of(url, bearer)).text))} == {}
    assert leaks(dump(tmp_path / "library.db")) == []
    assert AuditEntry.get(AuditEntry.action == "tasks.run").after["arguments"]["pin"] == "***"


def all_pages(app: Flask, values: dict[str, Any]) -> Iterator[str]:
    """Yield the addresses of all pages and answers whose parameters are among these."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or ()) and all(values.get(name) for name in rule.arguments):
                yield rule.build(values)[1]  # type: ignore[index]


def bearer_of(url: str, headers: dict[str, str]) -> dict[str, str]:
    return headers if url.startswith("/api/") else {}


def test_secret_is_not_in_a_broker_or_a_consumers_log(redis_url: str, tmp_path: Path) -> None:
    log, ledger = tmp_path / "log", tmp_path / "ledger"
    with share_with_consumers(vault, tmp_path, redis_url) as environment:
        environment["SECRET_KEY"] = settings.secret_key  # which this process seals with
        vault.serializer = SignedJSON(settings.secret_key)
        ran = [open_box(str(ledger), *CALL), open_box(str(ledger), *CALL, fails=True)]
        with redis.Redis.from_url(redis_url) as client:
            assert leaks(*map(client.dump, client.keys())) == []
        with consumer("secret_tasks.vault", "-k", "process", "-n", "-v", environment=environment, log=log) as running:
            running.logged(f"{ran[1].id}] failed in")
        assert read_ledger(ledger) == [list(CALL)] * 2
        assert leaks(log.read_text(), dump(tmp_path / "dewey.db")) == []
        assert "Opening *** with ***" in log.read_text()
        assert ran[0].get(blocking=True, timeout=5, preserve=True)["tried"] == [PASSWORD, {SHELF: PIN}]
        with pytest.raises(TaskException) as failure:
            ran[1].get(blocking=True, timeout=5)
        assert leaks(failure.value, failure.value.metadata) == []


def test_secret_is_not_found_by_a_search(app: Flask, box: Queue, ledger: Path) -> None:
    open_box(str(ledger), password=PASSWORD, options=OPTIONS)
    execute_all()
    browser = sign_in_browser(app, "viewer")

    def matches(search: str) -> int:
        answer = browser.get("/runs.json", query_string={"q": search})
        return len(json.loads(answer.text)["runs"])

    assert (matches("task:open_box"), matches("args.password:mk7*"), matches("mk7key"), matches("mk7")) == (1, 0, 0, 0)


def test_terminal_shows_no_secret(app: Flask, flask: RunFlask, box: Queue, ledger: Path) -> None:
    arguments = [f"ledger={ledger}", f"password={PASSWORD}", f"options={json.dumps(OPTIONS)}", "fails=true"]
    run_id = flask("run-task", "open_box", *arguments)
    execute_all()
    commands = [("runs", "show", run_id), ("runs", "list"), ("runs", "log", run_id), ("why", run_id), ("audit", "list"),
                ("runs", "show", run_id, "--json"), ("errors", "list")]  # fmt: skip
    with app.app_context():
        assert {command: found for command in commands if (found := leaks(flask(*command)))} == {}


def test_refused_value_is_not_repeated(app: Flask, box: Queue, ledger: Path) -> None:
    browser, bearer = sign_in_browser(app, "operator"), bearer_headers("operator")
    for name, value in (("password", ["mk7"]), ("pin", "mk7"), ("options", [{"token": "mk7"}])):
        body = {"args": [str(ledger)], "arguments": {"password": "-", name: value}}
        answer = browser.post("/api/v1/admin/tasks/open_box/run", json=body, headers=bearer)
        assert (answer.status_code, answer.json["field"], leaks(answer.text)) == (422, name, [])
    page = browser.send("/tasks/open_box/run", **{"arg.ledger": str(ledger), "arg.password": "mk7", "arg.pin": "mk7"})
    assert (page.status_code, leaks(page.text)) == (422, [])


# --- the task gets it ----------------------------------------------------------------------------------------


def test_every_path_delivers_the_secret(box: Queue, ledger: Path) -> None:
    file = str(ledger)
    open_box.map([(file, PASSWORD), (file, PASSWORD, SHELF)])
    vault.enqueue(receive.s(file, {"token": [PASSWORD]}).then(receive, file, {"token": SHELF}))
    failing = open_box.s(file, PASSWORD, fails=True, retries=1)
    vault.enqueue(failing.error(receive, file))
    assert leaks(dump(Path(vault.storage.database.path))) == []
    execute_all()
    opened = [line for line in read_ledger(ledger) if isinstance(line, list)]
    assert opened == [[PASSWORD, shelf, None, 0] for shelf in ("", SHELF, "", "")]
    others = [line["value"] for line in read_ledger(ledger) if isinstance(line, dict)]
    assert others[:2] == [{"token": [PASSWORD]}, {"token": SHELF}]
    assert [leaks(error) for error in others[2:]] == [[]] and "is wrong for" in others[2]


def test_unique_name_does_not_reveal_a_short_secret(box: Queue, ledger: Path) -> None:
    names = [unique_name(open_box.s(str(ledger), pin=pin)) for pin in (1, 1, 2)]
    guess = hashlib.sha256(orjson.dumps([[str(ledger)], {"pin": 1}])).hexdigest()
    assert names[0] == names[1] != names[2]
    assert names[0] != f"open_box:{guess}"


def test_result_that_is_handed_on_is_sealed_too(box: Queue, ledger: Path) -> None:
    vault.enqueue(open_box.s(str(ledger), PASSWORD, SHELF, pin=PIN).then(receive, str(ledger)))
    execute_all()
    assert read_ledger(ledger)[1] == {"value": None, "tried": [PASSWORD, {SHELF: PIN}], "hosts": None}
    assert leaks(dump(ledger.with_name("library.db"))) == []


def test_retry_opens_what_was_sealed(box: Queue, ledger: Path) -> None:
    ids = [open_box(str(ledger), *CALL).id, open_box(str(ledger), shelf=SHELF, password=PASSWORD).id]
    execute_all()
    for run_id in ids:
        runs.retry_run(tasks.queues, run_id, VERA)
    assert batch.retry_runs(tasks.queues, ids, VERA) == dict.fromkeys(ids, batch.NOT_ENDED)
    execute_all()
    assert batch.retry_runs(tasks.queues, ids, VERA) == {}
    execute_all()
    assert sorted(map(str, read_ledger(ledger))) == sorted(map(str, [list(CALL), [PASSWORD, SHELF, None, 0]] * 3))


def test_run_again_keeps_what_is_left_masked(app: Flask, box: Queue, ledger: Path) -> None:
    run_id = open_box(str(ledger), *CALL).id
    execute_all()
    browser, bearer = sign_in_browser(app, "operator"), bearer_headers("operator")
    assert browser.send(f"/runs/{run_id}/again", same="1").status_code == 303
    form = {"arg.ledger": str(ledger), "arg.password": "", "arg.shelf": "mk7new", "arg.pin": "", "arg.fails": "false",
            "arg.options": json.dumps({"apiKey": "***", "tries": 4})}  # fmt: skip
    assert browser.send(f"/runs/{run_id}/again", **form).status_code == 303
    shown = browser.get(f"/api/v1/admin/runs/{run_id}", headers=bearer).json["args"]
    body = {"args": [], "arguments": {"ledger": shown[0], "password": shown[1], "pin": 5, "options": shown[3]}}
    assert browser.post(f"/api/v1/admin/runs/{run_id}/again", json=body, headers=bearer).status_code == 200
    execute_all()
    assert read_ledger(ledger)[1:] == [
        list(CALL),
        [PASSWORD, "mk7new", {"apiKey": OPTIONS["apiKey"], "tries": 4}, PIN],
        [PASSWORD, "", OPTIONS, 5],
    ]
    assert leaks(*AuditEntry.select().where(AuditEntry.action == "runs.again").dicts()) == []


# --- sealed --------------------------------------------------------------------------------------------------


def test_sealed_arguments_belong_to_one_run(box: Queue, ledger: Path) -> None:
    one, other = (open_box(str(ledger), word) for word in (PASSWORD, SHELF))
    execute_all()
    stolen = SealedArguments.get_by_id(one.id).sealed
    SealedArguments.update(sealed=stolen).where(SealedArguments.run == other.id).execute()
    with pytest.raises(InvalidState, match="cannot be opened"):
        runs.retry_run(tasks.queues, other.id, VERA)
    with pytest.raises(InvalidState, match="cannot be opened"):
        runs.run_again(tasks.queues, other.id, [str(ledger), "***"], {}, by=VERA)
    assert batch.retry_runs(tasks.queues, [one.id, other.id], VERA) == {other.id: batch.SEALED}


def test_sealed_arguments_are_deleted_with_their_run(each_database: str, box: Queue, ledger: Path) -> None:
    ids = [open_box(str(ledger), PASSWORD).id for _ in range(2)]
    execute_all()
    assert SealedArguments.select().count() == 2
    runs.delete_run(tasks.queues, ids[0])
    assert [row.run_id for row in SealedArguments.select()] == ids[1:]
    prune([vault], now(), 0, 0)
    assert SealedArguments.select().count() == 0


# --- the rule ------------------------------------------------------------------------------------------------

SECRET = """password pwd pass passphrase token secret api_key apiKey APIKEY private_key privateKey AccessKey dsn cookie
    authorization Authorization bearer pin jwt otp credential credentials db_password dbpassword DBPassword accessToken
    auth X-Api-Key tokens api_keys userPin password2 client_secret connection_string"""
PLAIN = """pinned compass passenger bypass tokenizer spin secretary keyboard key author authority option opt jwtx
    monkey passage cookies_are_nice_not pinboard apikeyboard hours book_id shipping dsnap"""


def test_names_are_read_word_by_word() -> None:
    assert [name for name in SECRET.split() if not is_secret_name(name)] == []
    assert [name for name in PLAIN.split() if is_secret_name(name) and not name.startswith("cookies")] == []


def test_every_secret_name_is_found_in_the_json_of_a_large_call() -> None:
    for name in SECRET.split():
        (secret,) = split_call([[{name: "mk7"}]], {}, SecretParameters()).secrets
        assert (list(secret.path), secret.value) == ([0, 0, name], "mk7")


def test_nothing_and_truth_values_are_no_secrets() -> None:
    assert mask_names({"token": None, "use_token": True, "pin": 0}) == {"token": None, "use_token": True, "pin": "***"}


def test_secrets_names_parameters_of_the_task(box: Queue) -> None:
    for wrong in ("password", ("pasword",), (1,), 5):
        with pytest.raises(InvalidOption, match=r"secrets of open must be"):
            vault.task(secrets=wrong, name="open")(lambda password: None)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "shown"),
    [
        (lambda *tokens: None, ["a", "b"], {}, (["***", "***"], {})),
        (lambda first, *tokens: None, ["a", "b"], {}, (["a", "***"], {})),
        (lambda book, **credentials: None, [], {"book": "a", "user": "b"}, ([], {"book": "a", "user": "***"})),
        (lambda book, /, *, pin: None, ["a"], {"pin": "b"}, (["a"], {"pin": "***"})),
    ],
)
def test_further_arguments_follow_their_parameter(
    box: Queue, function: Callable[..., None], args: list[str], kwargs: dict[str, str], shown: tuple[Any, Any]
) -> None:
    task = vault.task(name="odd_call")(function)
    try:
        run_id = task(*args, **kwargs).id
        writer.flush_events_now(vault)
        run = Run.get_by_id(run_id)
        assert (run.args, run.kwargs) == shown
    finally:
        task.unregister()


def test_masked_text_is_masked_however_it_is_written() -> None:
    for secret in (PASSWORD, 'with "double"', "with 'single'", "back\\slash", "ключ от полки", "mk7 a+b/c=d&e"):
        message = f"no: {secret!r}"
        python = [secret, message, repr(message), repr(ValueError(message)), str(secret.encode())]
        forms = [*python, json.dumps([message]), json.dumps({"a": secret}, ensure_ascii=False)]
        forms += [urlencode({"p": secret}), quote(secret, safe="")]
        with hide_secrets([{"deep": [secret]}]):
            assert [form for form in forms if "***" not in mask_text(form)] == []
        assert mask_text(secret) == secret
