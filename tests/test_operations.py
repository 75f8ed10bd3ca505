"""Browser, JSON and terminal offer the same operations, with the same permissions and audit entries."""

import re
from datetime import timedelta
from typing import Any, NamedTuple

import click
import pytest
from browsers import bearer_headers, empty_queues, sign_in_browser
from factories import create_consumer, create_run, create_session
from flask import Flask

import tasks
from admin.api.routes import action_rule
from admin.cli.generated import GROUPS, TOP_LEVEL
from admin.operations.queries import QUERIES
from admin.operations.registry import ACTIONS
from config import settings
from engine.broker.messages import Requester
from engine.control import bulk
from engine.history.writer import flush_events
from engine.models import Tick, now
from models import AuditEntry, Book, Operator, ReadingSession, SavedView, Token, User

CLEANUP = "close_abandoned_sessions"
STATISTICS = "get_cleanup_statistics"


def find_command(app: Flask, noun: str, verb: str) -> click.Command | None:
    if name := TOP_LEVEL.get(f"{noun}.{verb}"):
        return app.cli.commands.get(name)
    group = app.cli.commands.get(GROUPS.get(noun, noun))
    return group.commands.get(verb) if isinstance(group, click.Group) else None


def test_every_operation_has_a_route_and_a_command_and_no_extra_route(app: Flask) -> None:
    addresses = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/admin/") and "POST" in rule.methods and "/reading-sessions/" not in rule.rule
    }
    assert addresses - {"/api/v1/admin/books"} == {action_rule(action) for action in ACTIONS.values()}
    assert [name for name, operation in ACTIONS.items() if not find_command(app, operation.noun, operation.verb)] == []
    assert [name for name, operation in QUERIES.items() if not find_command(app, operation.noun, operation.verb)] == []


def test_routes_require_the_role_of_their_action(app: Flask) -> None:
    for action in ACTIONS.values():
        (rule,) = [url_rule for url_rule in app.url_map.iter_rules() if url_rule.rule == action_rule(action)]
        assert app.view_functions[rule.endpoint].needs.role == action.role, action.name


# --- the same audit entry ------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """An operation in browser, JSON and terminal. {names} are replaced by its objects. Some operations have no page."""

    page: str | None
    form: dict[str, str]
    body: dict[str, Any]
    command: str


WHY = {"reason": "tidying up"}
TICKED = {"fingerprint": "{fingerprint}", "run": "{ended}"}
CHOSEN = {"fingerprint": "{fingerprint}", "runs": ["{ended}"]}
VIEW = {"name": "mine", "search": "state:failed"}

OPERATIONS = {
    "sessions.close": Operation("/sessions/{session}/close", {}, {}, "sessions close {session}"),
    "tasks.run": Operation(
        f"/tasks/{STATISTICS}/run", {"arg.hours": "3"}, {"arguments": {"hours": 3}}, f"run-task {STATISTICS} hours=3"
    ),
    "tasks.pause": Operation(f"/tasks/{CLEANUP}/pause", WHY, WHY, f"tasks pause {CLEANUP} --reason tidying_up"),
    "tasks.resume": Operation(f"/tasks/{CLEANUP}/resume", {}, {}, f"tasks resume {CLEANUP}"),
    "schedule.pause": Operation(
        f"/schedule/{CLEANUP}/pause", WHY, WHY, f"schedule pause {CLEANUP} --reason tidying_up"
    ),
    "schedule.resume": Operation(f"/schedule/{CLEANUP}/resume", {}, {}, f"schedule resume {CLEANUP}"),
    "schedule.run": Operation(f"/schedule/{CLEANUP}/run", {}, {}, f"schedule run {CLEANUP}"),
    "schedule.catch_up": Operation(f"/schedule/{CLEANUP}/catch-up", {}, {}, f"schedule catch-up {CLEANUP}"),
    "operators.create": Operation(
        None, {}, {"email": "new@example.org", "role": "viewer"}, "operator create new@example.org --role viewer"
    ),
    "tokens.create": Operation(None, {}, {"name": "new", "role": "viewer"}, "token create new --role viewer"),
    "library.demo": Operation(None, {}, {}, "demo"),
    "queues.pause": Operation("/queues/heavy/pause", WHY, WHY, "queues pause heavy --reason tidying_up"),
    "queues.resume": Operation("/queues/heavy/resume", {}, {}, "queues resume heavy"),
    "queues.purge": Operation("/queues/light/purge", {"word": "light"}, {}, "queues purge light --yes"),
    "runs.cancel": Operation("/runs/{waiting}/cancel", {}, {}, "runs cancel {waiting}"),
    "runs.retry": Operation("/runs/{ended}/retry", {}, {}, "runs retry {ended}"),
    "runs.again": Operation("/runs/{ended}/again", {"same": "1"}, {}, "runs again {ended}"),
    "runs.delete": Operation("/runs/{ended}/delete", {}, {}, "runs delete {ended} --yes"),
    "workers.quiet": Operation("/workers/{worker}/quiet", {}, {}, "workers quiet {worker}"),
    "workers.wake": Operation("/workers/{worker}/wake", {}, {}, "workers wake {worker}"),
    "workers.stop": Operation("/workers/{worker}/stop", {}, {}, "workers stop {worker} --yes"),
    "workers.restart": Operation("/workers/{worker}/restart", {}, {}, "workers restart {worker} --yes"),
    "workers.dump": Operation("/workers/{worker}/dump", {}, {}, "workers dump {worker}"),
    "bulk.retry": Operation("/bulk", {"verb": "retry", **TICKED}, CHOSEN, "bulk retry {ended} --yes"),
    "bulk.cancel": Operation("/bulk", {"verb": "cancel", **TICKED}, CHOSEN, "bulk cancel {ended} --yes"),
    "bulk.delete": Operation("/bulk", {"verb": "delete", **TICKED}, CHOSEN, "bulk delete {ended} --yes"),
    "bulk.stop": Operation("/bulk/{bulk}/stop", {}, {}, "bulk stop {bulk}"),
    "views.save": Operation("/views", VIEW, VIEW, "views save --name mine --search state:failed"),
    "views.delete": Operation("/views/{view}/delete", {}, {}, "views delete {view}"),
    "dead.requeue": Operation("/dead/{dead}/requeue", {}, {}, "dead requeue {dead}"),
    "dead.discard": Operation("/dead/{dead}/discard", {}, {}, "dead discard {dead} --yes"),
}  # fmt: skip

#: Operations whose pages are tested in other files.
PEOPLE = ("operators", "tokens")


def test_all_actions_of_these_nouns_are_covered() -> None:
    nouns = {name.partition(".")[0] for name in OPERATIONS}.difference(PEOPLE)
    assert {name for name, operation in ACTIONS.items() if operation.noun in nouns} <= set(OPERATIONS)


def create_objects(name: str) -> dict[str, Any]:
    """Create the objects of the operations. Return their names."""
    if name == "library.demo":
        empty_library()
        return {}
    empty_queues()
    consumer = create_consumer("light")
    ended = create_run(STATISTICS, "failed", kwargs={"hours": 7}, ended_at=now())
    ticked = bulk.by_ids([ended.id])
    fingerprint = bulk.preflight(ticked, 1).fingerprint
    Tick.delete().execute()
    Tick.create(task=CLEANUP, due_at=now() - timedelta(hours=1), queue="light", state="missed", seen_at=now())
    SavedView.delete().execute()
    dead, waiting = create_dead_run(), tasks.get_cleanup_statistics(hours=3).id
    flush_events(tasks.light)
    return {
        "session": create_session().id,
        "dead": dead,
        "waiting": waiting,
        "ended": ended.id,
        "fingerprint": fingerprint,
        "worker": consumer.id,
        "bulk": bulk.create("retry", ticked, fingerprint, Requester("cli", "test")).id,
        "view": SavedView.create(name="theirs", search="state:dead", owner="ann@example.org", shared=True).id,
    }


def create_dead_run() -> str:
    """Return the id of a run that killed its workers."""
    run_id = str(tasks.cleanup_old_task_results().id)
    for number in range(settings.max_deliveries):
        assert tasks.light.storage.deliveries.settle_and_claim(f"c{number}", "w", False, "{}").claimed
        tasks.light.storage.deliveries.release(f"c{number}", "w", "the worker died", settings.max_deliveries)
    return run_id


def fill_names(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: fill_names(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_names(inner, names) for inner in value]
    return value.format(**names) if isinstance(value, str) else value


def audit_row(names: dict[str, Any]) -> tuple[str, str]:
    """Return the last audit entry without its source. Names replace values that differ each time."""
    entry = AuditEntry.select().order_by(AuditEntry.id.desc()).get()
    text = str((entry.action, entry.target, entry.before, entry.after))
    for name, value in names.items():
        text = text.replace(f"'{value}'", f"<{name}>")
    text = re.sub(r"'[0-9a-f]{8}-[0-9a-f-]{27}'|'\d+'", "<new>", text)
    return entry.source, text


@pytest.mark.parametrize("name", OPERATIONS)
def test_page_api_and_command_write_the_same_audit_row(app: Flask, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deed, lines = OPERATIONS[name], []
    monkeypatch.setattr("admin.cli.workers.DUMP_SECONDS", 0.1)
    monkeypatch.setattr("admin.pages.queues.worker_actions.DUMP_SECONDS", 0.1)
    if deed.page:
        names = create_objects(name)
        browser = sign_in_browser(app, "admin")
        answer = browser.send(fill_names(deed.page, names), **fill_names(deed.form, names))
        assert answer.status_code == 303, answer.text
        lines.append(audit_row(names))
    names, path = create_objects(name), action_rule(ACTIONS[name])
    subject = next((word for word in fill_names(deed.page or "", names).split("/")[2:3]), "")
    path = re.sub(r"<[^>]+>", subject, path)
    headers = bearer_headers("admin")
    answer = app.test_client().post(path, json=fill_names(deed.body, names), headers=headers)
    assert answer.status_code == 200, answer.text
    lines.append(audit_row(names))
    undo(name)
    names = create_objects(name)
    words = [word.replace("tidying_up", "tidying up") for word in fill_names(deed.command, names).split()]
    app.test_cli_runner().invoke(args=words)  # with any exit code: some wait for a run
    lines.append(audit_row(names))
    assert [source for source, _ in lines] == (["web"] if deed.page else []) + ["api", "cli"]
    assert len({text for _, text in lines}) == 1, lines


def undo(name: str) -> None:
    """Reverse operations that are possible only once."""
    Token.delete().where(Token.name == "new").execute()
    Operator.delete().where(Operator.email == "new@example.org").execute()


def empty_library() -> None:
    for model in (ReadingSession, Book, User):
        model.delete().execute()
