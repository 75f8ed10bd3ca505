"""One command for many runs: the question before it, the fingerprint, the account of every run."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from browsers import PEOPLE, Browser, empty_queues, signed_in_browser
from flask import Flask
from inline_worker import one_run_worked_off
from library import attempt, consumer_of, rows_of, run

import tasks
from admin.auth.identity import Who
from admin.operations import bulk as bulk_deeds
from admin.operations.registry import perform
from admin.problems import BadInput, NotAllowed
from engine.broker.messages import Requester
from engine.control import batch, bulk
from engine.control.bulk import preflight, ticked, work_off
from engine.database import database
from engine.history import run_counts
from engine.models import Attempt, Bulk, BulkItem, LogLine, Run, RunCount, now
from engine.search.query_plan import Lookup
from engine.search.run_search import everything
from models import AuditEntry

ANNA = Requester("operator", "anna@example.org")
TASK = "get_cleanup_statistics"


def who(role: str = "admin") -> Who:
    return Who("operator", PEOPLE[role], role, "web")


def fields_of(html: str) -> dict[str, Any]:
    """What the form of the question would send."""
    form = html.partition('action="/bulk"')[2].partition("</form>")[0]
    found = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    fields: dict[str, Any] = {name: unescape(value) for name, value in found if name != "run"}
    return {**fields, "run": [value for name, value in found if name == "run"]}


def begin(verb: str, runs: Any = None, search: str | None = None) -> Bulk:
    runs = everything(Lookup()) if runs is None else runs
    return bulk.begin(verb, runs, preflight(runs, 1).fingerprint, ANNA, search)


def results(begun: Bulk) -> dict[str, tuple[str, str | None]]:
    return {item.run_id: (item.state, item.reason) for item in BulkItem.select().where(BulkItem.bulk_id == begun.id)}


@pytest.fixture(autouse=True)
def fresh_queues() -> None:
    empty_queues()


# --- the question --------------------------------------------------------------------------------------------


def test_the_question_counts_exactly_shows_the_newest_and_says_what_will_be_refused(either: Browser) -> None:
    failed = [run(TASK, "failed", enqueued_at=now() - timedelta(minutes=number)) for number in range(12)]
    run(TASK, "running")
    run("process_book", "failed")
    html = either.get(f"/bulk/new?verb=retry&q=task:{TASK}").text
    assert "Retry 13 runs?" in html
    assert "1 has not ended and will be refused" in html
    assert [one.id for one in failed[:9]] == rows_of(html)[1:]
    assert len(rows_of(html)) == 10
    assert "It would not start now" in html
    assert Bulk.select().count() == 0


def test_ticked_runs_are_asked_about_in_the_same_way(operator: Browser) -> None:
    one, two = run(TASK, "failed"), run(TASK, "failed")
    run(TASK, "failed")
    html = operator.get(f"/bulk/new?verb=cancel&run={one.id}&run={two.id}").text
    assert "Cancel 2 runs?" in html
    assert "2 have ended and will be refused" in html
    assert set(fields_of(html)["run"]) == {one.id, two.id}


@pytest.mark.parametrize("url", ["/bulk/new?verb=retry", "/bulk/new?verb=retry&q=&state=all&task="])
def test_all_runs_at_once_are_never_meant(operator: Browser, url: str) -> None:
    run(TASK, "failed")
    assert operator.get(url).status_code == 422
    for search in ("", "   ", f"before:{now().isoformat()}"):
        shown = preflight(everything(Lookup()), 1).fingerprint
        assert operator.send("/bulk", verb="retry", search=search, fingerprint=shown, total="1").status_code == 422
    assert (Bulk.select().count(), AuditEntry.select().where(AuditEntry.action == "bulk.retry").count()) == (0, 0)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"verb": "purge", "search": "state:failed"}, "verb"),
        ({"verb": "retry", "search": "state:broken"}, "search"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(operator: Browser, form: dict[str, str], field: str) -> None:
    answer = operator.send("/bulk", **form, fingerprint="x", total="1")
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text


def test_more_than_can_be_taken_at_once_are_refused(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 3)
    for _ in range(4):
        run(TASK, "failed")
    assert "More than 3 runs match" in operator.get("/bulk/new?verb=retry&state=failed").text
    with pytest.raises(BadInput):
        perform(who(), "bulk.retry", fingerprint="x", search="state:failed")
    assert (Bulk.select().count(), BulkItem.select().count()) == (0, 0)


def test_a_viewer_is_not_asked_and_only_an_admin_deletes(app: Flask, library: None) -> None:
    one = run(TASK, "failed")
    viewer, operator = signed_in_browser(app, "viewer"), signed_in_browser(app, "operator")
    assert viewer.get("/bulk/new?verb=retry&state=failed").status_code == 403
    assert 'name="run"' not in viewer.get("/runs").text
    assert 'value="delete"' not in operator.get("/runs").text
    html = operator.get("/bulk/new?verb=delete&state=failed").text
    assert "This takes the role admin." in html
    assert "<form" not in html.partition("<main")[2]
    shown = preflight(ticked([one.id]), 1).fingerprint
    assert operator.send("/bulk", verb="delete", run=one.id, fingerprint=shown, total="1").status_code == 403
    with pytest.raises(NotAllowed):
        perform(who("viewer"), "bulk.retry", fingerprint=shown, runs=[one.id])
    assert Bulk.select().count() == 0


# --- what was shown is what is done --------------------------------------------------------------------------


def test_a_set_that_has_changed_since_is_refused_with_the_reason_and_asked_about_again(either: Browser) -> None:
    consumer_of("light")
    one, two = run(TASK, "failed"), run(TASK, "failed")
    form = fields_of(either.get("/bulk/new?verb=retry&state=failed").text)
    Run.update(state="succeeded").where(Run.id == one.id).execute()
    run(TASK, "failed", enqueued_at=now() - timedelta(hours=1))
    run(TASK, "failed", enqueued_at=now() - timedelta(hours=2))
    del form["run"]
    answer = either.send("/bulk", **form)
    assert answer.status_code == 409
    assert "There were 2, now there are 3." in answer.text
    assert "Retry 3 runs?" in answer.text
    assert (Bulk.select().count(), BulkItem.select().count()) == (0, 0)
    again = fields_of(answer.text)
    del again["run"]
    assert either.send("/bulk", **again).status_code == 303
    assert {item.run_id for item in BulkItem.select()} >= {two.id}
    assert one.id not in {item.run_id for item in BulkItem.select()}


def test_runs_that_come_in_after_the_question_do_not_change_it(operator: Browser) -> None:
    consumer_of("light")
    one = run(TASK, "failed", enqueued_at=now() - timedelta(minutes=1))
    form = fields_of(operator.get(f"/bulk/new?verb=retry&task={TASK}&last=24h").text)
    run(TASK, "failed", enqueued_at=now() + timedelta(seconds=1))
    del form["run"]
    assert operator.send("/bulk", **form).status_code == 303
    assert [item.run_id for item in BulkItem.select()] == [one.id]


def test_a_filter_is_retried_by_a_task_with_one_audit_line_and_an_account(either: Browser) -> None:
    consumer_of("light")
    failed = [run(TASK, "failed", kwargs={"hours": 24}, error="ValueError: no", attempts=1) for _ in range(3)]
    form = fields_of(either.get("/bulk/new?verb=retry&state=failed").text)
    del form["run"]
    begun = Bulk.get_by_id(int(either.send("/bulk", **form).location.rpartition("/")[2]))
    assert (begun.verb, begun.total, begun.asked_by) == ("retry", 3, "operator@example.org")
    with one_run_worked_off():
        pass
    assert set(results(begun).values()) == {("done", None)}
    for one in failed:
        again = Run.get_by_id(one.id)
        assert (again.state, again.error) == ("waiting", None)
    assert tasks.light.storage.messages.count_waiting() == 3
    (line,) = AuditEntry.select().where(AuditEntry.action.startswith("bulk"))
    assert (line.target, line.after["count"], line.after["run"]) == (str(begun.id), 3, begun.run_id)
    assert line.after["search"].startswith("state:failed before:")
    html = either.get(f"/bulk/{begun.id}").text
    assert "3 of 3" in html
    assert html.count("done</span>") == 3
    assert f'href="/runs/{begun.run_id}"' in html
    assert f'href="/bulk/{begun.id}?state=done">3</a>' in either.get("/bulk").text


# --- each verb -----------------------------------------------------------------------------------------------


def test_retrying_takes_what_has_ended_and_tells_why_the_rest_is_refused(each_database: str) -> None:
    ended = {state: run(TASK, state) for state in ("failed", "succeeded", "cancelled")}
    going, strange, gone = run(TASK, "running"), run("no_such_task", "failed"), run(TASK, "failed")
    tasks.light.storage.messages.write(tasks.light.posted(tasks.get_cleanup_statistics.s(id=going.id)))
    begun = begin("retry")
    gone.delete_instance()
    assert work_off(tasks.queues, begun.id) == {"done": 3, "refused": 3, "total": 6}
    told = results(begun)
    assert {told[one.id] for one in ended.values()} == {("done", None)}
    assert told[going.id] == ("refused", batch.NOT_ENDED)
    assert told[strange.id] == ("refused", batch.UNKNOWN_TASK)
    assert told[gone.id] == ("refused", batch.NOT_ON_RECORD)
    assert Bulk.get_by_id(begun.id).ended_at


def test_cancelling_takes_what_waits_and_refuses_what_has_ended(each_database: str) -> None:
    waiting = [tasks.get_cleanup_statistics().id for _ in range(2)] + [
        tasks.get_cleanup_statistics.schedule(delay=60).id
    ]
    batch.write_down(tasks.queues)
    over = run(TASK, "failed")
    begun = begin("cancel")
    assert work_off(tasks.queues, begun.id) == {"done": 3, "refused": 1, "total": 4}
    assert results(begun)[over.id] == ("refused", batch.NOT_PENDING)
    assert {Run.get_by_id(one).state for one in waiting} == {"cancelled"}
    assert tasks.light.storage.messages.count_waiting() == tasks.light.storage.messages.count_scheduled() == 0


def test_of_a_run_that_was_running_the_account_says_that_it_was_asked_to_stop(operator: Browser) -> None:
    running = tasks.get_cleanup_statistics()
    batch.write_down(tasks.queues)
    tasks.light.set_worker_identity("here", "Worker-1")
    assert tasks.light.dequeue() is not None
    begun = begin("cancel")
    assert work_off(tasks.queues, begun.id) == {"done": 1, "refused": 0, "total": 1}
    assert results(begun)[running.id] == ("done", batch.ASKED_TO_STOP)
    assert "It was running and has been asked to stop." in operator.get(f"/bulk/{begun.id}").text


def test_deleting_takes_the_run_its_attempts_its_lines_and_its_counts(each_database: str) -> None:
    at = now()
    kept = run(TASK, "succeeded", ended_at=at, wait_ms=3, run_ms=5)
    gone = [run(TASK, "failed", ended_at=at, wait_ms=3, run_ms=5) for _ in range(2)]
    going = run(TASK, "running")
    for one in (kept, *gone):
        attempt(one, 1, "failed", ended_at=at, next_at=at)
        LogLine.create(run_id=one.id, delivery=1, number=1, at=at, level="INFO", logger="x", text="line")
        deltas = Counter(run_counts.keys_of(one))
        deltas[run_counts.key_of(one, at, run_counts.RETRIED)] += 1
        run_counts.add(deltas)
    begun = begin("delete")
    BulkItem.delete().where(BulkItem.run_id == kept.id).execute()
    assert work_off(tasks.queues, begun.id)["done"] == 2
    assert results(begun)[going.id] == ("refused", batch.NOT_ENDED)
    assert {one.id for one in Run.select()} == {kept.id, going.id}
    assert [one.run_id for one in Attempt.select()] == [one.run_id for one in LogLine.select()] == [kept.id]
    kept_for_ever = RunCount.span == run_counts.EVER
    left = {(row.span, row.what): row.count for row in RunCount.select().where(~kept_for_ever) if row.count}
    for span in run_counts.SPANS:
        for what in ("succeeded", "waited", "ran", "retried"):
            assert left.pop((span, what)) == 1
    assert left == {}


# --- interrupted, doubled, stopped ---------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a worker."""


def test_what_an_execution_had_begun_when_it_died_is_concluded_by_the_next(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    failed = [run(TASK, "failed", enqueued_at=now() - timedelta(minutes=9 - number)) for number in range(5)]
    begun = begin("retry")

    def killed(*_args: Any) -> None:
        raise Killed

    monkeypatch.setattr(bulk, "finish_batch", killed)
    with pytest.raises(Killed):  # both of the first batch are back in their queue, and nobody has written it down
        work_off(tasks.queues, begun.id)
    assert Counter(state for state, _ in results(begun).values()) == {"doing": 2, "waiting": 3}
    monkeypatch.undo()
    assert work_off(tasks.queues, begun.id) == {"done": 5, "refused": 0, "total": 5}
    assert set(results(begun).values()) == {("done", None)}
    assert tasks.light.storage.messages.count_waiting() == 5
    assert work_off(tasks.queues, begun.id) == {"done": 5, "refused": 0, "total": 5}
    assert {Run.get_by_id(one.id).state for one in failed} == {"waiting"}


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_cancelling_and_deleting_go_on_in_the_same_way(
    library: None, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "delete":
        run(TASK, "failed")
    else:
        tasks.get_cleanup_statistics()
        batch.write_down(tasks.queues)
    begun = begin(verb)
    with monkeypatch.context() as broken:
        broken.setattr(bulk, "finish_batch", lambda *_args: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            work_off(tasks.queues, begun.id)
    assert work_off(tasks.queues, begun.id) == {"done": 1, "refused": 0, "total": 1}


def test_two_executions_at_once_do_each_run_once(each_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    for _ in range(6):
        run(TASK, "failed")
    begun, done = begin("retry"), []
    inner = bulk.HANDLERS["retry"]

    def in_the_middle(queues: Any, run_ids: list[str], by: Requester) -> dict[str, str]:
        done.extend(run_ids)
        if len(done) == 2:
            monkeypatch.setattr(bulk, "take_back", lambda *_args: [])
            work_off(tasks.queues, begun.id)
        return inner(queues, run_ids, by)

    monkeypatch.setitem(bulk.HANDLERS, "retry", in_the_middle)
    work_off(tasks.queues, begun.id)
    assert len(done) == len(set(done)) == 6
    assert tasks.light.storage.messages.count_waiting() == 6
    assert (Bulk.get().done, Bulk.get().refused) == (6, 0)


def test_what_is_stopped_leaves_the_rest_alone(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    for _ in range(6):
        run(TASK, "failed")
    begun = begin("retry")
    progress: list[tuple[int, int]] = []

    def after_the_first_batch(done: int, total: int) -> None:
        progress.append((done, total))
        operator.send(f"/bulk/{begun.id}/stop")

    work_off(tasks.queues, begun.id, after_the_first_batch)
    assert progress == [(2, 6), (4, 6)]
    assert Counter(state for state, _ in results(begun).values()) == {"done": 4, "skipped": 2}
    html = operator.get(f"/bulk/{begun.id}?state=skipped").text
    assert "stopped" in html
    assert html.count("left alone</span>") == 2
    assert operator.send(f"/bulk/{begun.id}/stop").status_code == 409
    assert [line.action for line in AuditEntry.select() if line.action.startswith("bulk")] == ["bulk.stop"]


def test_when_nobody_can_be_asked_to_work_it_off_nothing_is_left(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TASK, "failed")
    form = fields_of(operator.get("/bulk/new?verb=retry&state=failed").text)
    del form["run"]
    monkeypatch.setattr(bulk_deeds, "TASK", "no_such_task")
    assert operator.send("/bulk", **form).status_code == 404
    assert (Bulk.select().count(), BulkItem.select().count()) == (0, 0)


# --- pages ---------------------------------------------------------------------------------------------------


def test_the_items_are_paged_and_can_be_had_by_result(operator: Browser) -> None:
    for _ in range(70):
        run(TASK, "failed")
    begun = begin("retry")
    BulkItem.update(state="refused", reason=batch.NOT_ENDED).where(BulkItem.number <= 3).execute()
    url, seen = f"/bulk/{begun.id}", []
    while url:
        html = operator.get(url).text
        seen += re.findall(r'id="item-(\d+)"', html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert seen == [str(number) for number in range(1, 71)]
    assert operator.get(f"/bulk/{begun.id}?state=refused").text.count("It has not ended.") == 3
    assert operator.get("/bulk/999").status_code == 404
    assert operator.get(f"/bulk/{begun.id}?after=x").status_code == 422


def test_old_accounts_are_forgotten(each_database: str) -> None:
    run(TASK, "failed")
    old, new = begin("retry"), begin("retry")
    Bulk.update(created_at=now() - timedelta(days=31)).where(Bulk.id == old.id).execute()
    bulk.forget(now() - bulk.KEPT)
    assert [one.id for one in Bulk.select()] == [item.bulk_id for item in BulkItem.select()] == [new.id]


def test_a_command_for_many_runs_takes_few_statements(each_database: str, count_statements: Callable[[], int]) -> None:
    for _ in range(150):
        run(TASK, "failed")
    begun = begin("delete")
    work_off(tasks.queues, begun.id)
    assert Run.select().count() == 0
    assert count_statements() < 150


@pytest.fixture
def count_statements(each_database: str) -> Callable[[], int]:
    sent: list[str] = []

    def counted() -> int:
        return len([sql for sql in sent if not sql.startswith('INSERT INTO "dewey_runs"')])

    database.obj.query_hooks.append(lambda event: sent.append(event.sql))
    return counted
