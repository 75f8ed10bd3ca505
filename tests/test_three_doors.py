"""Browser, JSON and terminal lead to the same operations: the same set, the same right, the same line in the audit."""

import re
from datetime import timedelta
from typing import Any, NamedTuple

import click
import pytest
from browsers import bearer_headers, empty_queues, signed_in_browser
from flask import Flask
from library import consumer_of, run, session

import tasks
from admin.api.routes import rule_of
from admin.cli.generated import ALONE, GROUPS
from admin.operations.queries import READS
from admin.operations.registry import ACTIONS
from config import settings
from engine.broker.messages import Requester
from engine.control import bulk
from engine.history.writer import write_down
from engine.models import Tick, now
from models import AuditEntry, Book, Operator, ReadingSession, SavedView, Token, User

CLEANUP = "close_abandoned_sessions"
STATISTICS = "get_cleanup_statistics"


def command_of(app: Flask, noun: str, verb: str) -> click.Command | None:
    if name := ALONE.get(f"{noun}.{verb}"):
        return app.cli.commands.get(name)
    group = app.cli.commands.get(GROUPS.get(noun, noun))
    return group.commands.get(verb) if isinstance(group, click.Group) else None


def test_every_operation_has_an_address_and_a_command_and_no_door_has_more(app: Flask) -> None:
    addresses = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/admin/") and "POST" in rule.methods and "/reading-sessions/" not in rule.rule
    }
    assert addresses == {rule_of(action) for action in ACTIONS.values()}
    assert [name for name, one in ACTIONS.items() if not command_of(app, one.noun, one.verb)] == []
    assert [name for name, one in READS.items() if not command_of(app, one.noun, one.verb)] == []


def test_every_door_asks_for_the_right_of_the_table(app: Flask) -> None:
    for action in ACTIONS.values():
        (rule,) = [one for one in app.url_map.iter_rules() if one.rule == rule_of(action)]
        assert app.view_functions[rule.endpoint].needs.role == action.role, action.name


# --- the same line -------------------------------------------------------------------------------------------


class Deed(NamedTuple):
    """How one operation is given at each door; {names} stand for what it is about. No page: no other door needs one."""

    page: str | None
    form: dict[str, str]
    body: dict[str, Any]
    command: str


WHY = {"reason": "tidying up"}
TICKED = {"fingerprint": "{fingerprint}", "run": "{ended}"}
CHOSEN = {"fingerprint": "{fingerprint}", "runs": ["{ended}"]}
VIEW = {"name": "mine", "search": "state:failed"}

DEEDS = {
    "sessions.close": Deed("/sessions/{session}/close", {}, {}, "sessions close {session}"),
    "tasks.run": Deed(
        f"/tasks/{STATISTICS}/run", {"arg.hours": "3"}, {"arguments": {"hours": 3}}, f"run-task {STATISTICS} hours=3"
    ),
    "tasks.pause": Deed(f"/tasks/{CLEANUP}/pause", WHY, WHY, f"tasks pause {CLEANUP} --reason tidying_up"),
    "tasks.resume": Deed(f"/tasks/{CLEANUP}/resume", {}, {}, f"tasks resume {CLEANUP}"),
    "schedule.pause": Deed(f"/schedule/{CLEANUP}/pause", WHY, WHY, f"schedule pause {CLEANUP} --reason tidying_up"),
    "schedule.resume": Deed(f"/schedule/{CLEANUP}/resume", {}, {}, f"schedule resume {CLEANUP}"),
    "schedule.run": Deed(f"/schedule/{CLEANUP}/run", {}, {}, f"schedule run {CLEANUP}"),
    "schedule.catch_up": Deed(f"/schedule/{CLEANUP}/catch-up", {}, {}, f"schedule catch-up {CLEANUP}"),
    "operators.create": Deed(
        None, {}, {"email": "new@example.org", "role": "viewer"}, "operator create new@example.org --role viewer"
    ),
    "tokens.create": Deed(None, {}, {"name": "new", "role": "viewer"}, "token create new --role viewer"),
    "library.demo": Deed(None, {}, {}, "demo"),
    "queues.pause": Deed("/queues/heavy/pause", WHY, WHY, "queues pause heavy --reason tidying_up"),
    "queues.resume": Deed("/queues/heavy/resume", {}, {}, "queues resume heavy"),
    "queues.purge": Deed("/queues/light/purge", {"word": "light"}, {}, "queues purge light --yes"),
    "runs.cancel": Deed("/runs/{waiting}/cancel", {}, {}, "runs cancel {waiting}"),
    "runs.retry": Deed("/runs/{ended}/retry", {}, {}, "runs retry {ended}"),
    "runs.again": Deed("/runs/{ended}/again", {"same": "1"}, {}, "runs again {ended}"),
    "runs.delete": Deed("/runs/{ended}/delete", {}, {}, "runs delete {ended} --yes"),
    "workers.quiet": Deed("/workers/{worker}/quiet", {}, {}, "workers quiet {worker}"),
    "workers.wake": Deed("/workers/{worker}/wake", {}, {}, "workers wake {worker}"),
    "workers.stop": Deed("/workers/{worker}/stop", {}, {}, "workers stop {worker} --yes"),
    "workers.restart": Deed("/workers/{worker}/restart", {}, {}, "workers restart {worker} --yes"),
    "workers.dump": Deed("/workers/{worker}/dump", {}, {}, "workers dump {worker}"),
    "bulk.retry": Deed("/bulk", {"verb": "retry", **TICKED}, CHOSEN, "bulk retry {ended} --yes"),
    "bulk.cancel": Deed("/bulk", {"verb": "cancel", **TICKED}, CHOSEN, "bulk cancel {ended} --yes"),
    "bulk.delete": Deed("/bulk", {"verb": "delete", **TICKED}, CHOSEN, "bulk delete {ended} --yes"),
    "bulk.stop": Deed("/bulk/{bulk}/stop", {}, {}, "bulk stop {bulk}"),
    "views.save": Deed("/views", VIEW, VIEW, "views save --name mine --search state:failed"),
    "views.delete": Deed("/views/{view}/delete", {}, {}, "views delete {view}"),
    "dead.requeue": Deed("/dead/{dead}/requeue", {}, {}, "dead requeue {dead}"),
    "dead.discard": Deed("/dead/{dead}/discard", {}, {}, "dead discard {dead} --yes"),
}  # fmt: skip

#: Whose pages, and tests of them, are elsewhere.
PEOPLE = ("operators", "tokens")


def test_every_operation_of_these_nouns_is_given_here() -> None:
    nouns = {name.partition(".")[0] for name in DEEDS}.difference(PEOPLE)
    assert {name for name, one in ACTIONS.items() if one.noun in nouns} <= set(DEEDS)


def ground(name: str) -> dict[str, Any]:
    """What the operations are about; gives its names."""
    if name == "library.demo":
        empty_library()
        return {}
    empty_queues()
    consumer = consumer_of("light")
    ended = run(STATISTICS, "failed", kwargs={"hours": 7}, ended_at=now())
    ticked = bulk.ticked([ended.id])
    fingerprint = bulk.preflight(ticked, 1).fingerprint
    Tick.delete().execute()
    Tick.create(task=CLEANUP, due_at=now() - timedelta(hours=1), queue="light", state="missed", seen_at=now())
    SavedView.delete().execute()
    dead, waiting = die(), tasks.get_cleanup_statistics(hours=3).id
    write_down(tasks.light)
    return {
        "session": session().id,
        "dead": dead,
        "waiting": waiting,
        "ended": ended.id,
        "fingerprint": fingerprint,
        "worker": consumer.id,
        "bulk": bulk.begin("retry", ticked, fingerprint, Requester("cli", "test")).id,
        "view": SavedView.create(name="theirs", search="state:dead", owner="ann@example.org", shared=True).id,
    }


def die() -> str:
    """The id of a run that took down its workers."""
    run_id = str(tasks.cleanup_old_task_results().id)
    for number in range(settings.max_deliveries):
        assert tasks.light.storage.deliveries.settle_and_claim(f"c{number}", "w", False, "{}").claimed
        tasks.light.storage.deliveries.release(f"c{number}", "w", "the worker died", settings.max_deliveries)
    return run_id


def filled(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    return value.format(**names) if isinstance(value, str) else value


def line(names: dict[str, Any]) -> tuple[str, str]:
    """The last line of the audit, its source apart, with names in place of what is new each time."""
    entry = AuditEntry.select().order_by(AuditEntry.id.desc()).get()
    told = str((entry.action, entry.target, entry.before, entry.after))
    for name, value in names.items():
        told = told.replace(f"'{value}'", f"<{name}>")
    told = re.sub(r"'[0-9a-f]{8}-[0-9a-f-]{27}'|'\d+'", "<new>", told)
    return entry.source, told


@pytest.mark.parametrize("name", DEEDS)
def test_every_door_writes_the_same_line(app: Flask, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deed, lines = DEEDS[name], []
    monkeypatch.setattr("admin.cli.workers.DUMP_SECONDS", 0.1)
    monkeypatch.setattr("admin.pages.queues.worker_actions.DUMP_SECONDS", 0.1)
    if deed.page:
        names = ground(name)
        browser = signed_in_browser(app, "admin")
        answer = browser.send(filled(deed.page, names), **filled(deed.form, names))
        assert answer.status_code == 303, answer.text
        lines.append(line(names))
    names, path = ground(name), rule_of(ACTIONS[name])
    subject = next((word for word in filled(deed.page or "", names).split("/")[2:3]), "")
    path = re.sub(r"<[^>]+>", subject, path)
    headers = bearer_headers("admin")
    answer = app.test_client().post(path, json=filled(deed.body, names), headers=headers)
    assert answer.status_code == 200, answer.text
    lines.append(line(names))
    undo(name)
    names = ground(name)
    words = [word.replace("tidying_up", "tidying up") for word in filled(deed.command, names).split()]
    app.test_cli_runner().invoke(args=words)  # whatever it waits for afterwards
    lines.append(line(names))
    assert [source for source, _ in lines] == (["web"] if deed.page else []) + ["api", "cli"]
    assert len({told for _, told in lines}) == 1, lines


def undo(name: str) -> None:
    """What can be made only once."""
    Token.delete().where(Token.name == "new").execute()
    Operator.delete().where(Operator.email == "new@example.org").execute()


def empty_library() -> None:
    for model in (ReadingSession, Book, User):
        model.delete().execute()
