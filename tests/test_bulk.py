"""Bulk commands: the confirmation page, its fingerprint, and the report on every run."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from browsers import PEOPLE, Browser, empty_queues, sign_in_browser
from factories import create_attempt, create_consumer, create_run, row_ids
from flask import Flask
from thread_worker import process_one_run

import tasks
from admin.auth.identity import Actor
from admin.operations import bulk as bulk_deeds
from admin.operations.registry import execute
from admin.problems import ForbiddenError, InvalidInput
from engine.broker.messages import Requester
from engine.control import batch, bulk
from engine.control.bulk import by_ids, preflight, process
from engine.database import database
from engine.history import run_counts
from engine.models import Attempt, BulkAction, BulkActionItem, LogLine, Run, RunCount, now
from engine.search.query_plan import RunQuery
from engine.search.run_search import all_matching
from models import AuditEntry

ANNA = Requester("operator", "anna@example.org")
TASK = "get_cleanup_statistics"


def create_actor(role: str = "admin") -> Actor:
    return Actor("operator", PEOPLE[role], role, "web")


def fields_of(html: str) -> dict[str, Any]:
    """Return the fields that the confirmation form would send."""
    form = html.partition('action="/bulk"')[2].partition("</form>")[0]
    matches = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    fields: dict[str, Any] = {name: unescape(value) for name, value in matches if name != "run"}
    return {**fields, "run": [value for name, value in matches if name == "run"]}


def create_bulk(verb: str, runs: Any = None, search: str | None = None) -> BulkAction:
    runs = all_matching(RunQuery()) if runs is None else runs
    return bulk.create(verb, runs, preflight(runs, 1).fingerprint, ANNA, search)


def results(begun: BulkAction) -> dict[str, tuple[str, str | None]]:
    return {
        item.run_id: (item.state, item.reason)
        for item in BulkActionItem.select().where(BulkActionItem.bulk_id == begun.id)
    }


@pytest.fixture(autouse=True)
def fresh_queues() -> None:
    empty_queues()


# --- confirmation --------------------------------------------------------------------------------------------


def test_confirmation_shows_exact_count_newest_runs_and_refusals(any_db_operator: Browser) -> None:
    failed = [create_run(TASK, "failed", enqueued_at=now() - timedelta(minutes=number)) for number in range(12)]
    create_run(TASK, "running")
    create_run("process_book", "failed")
    html = any_db_operator.get(f"/bulk/new?verb=retry&q=task:{TASK}").text
    assert "Retry 13 runs?" in html
    assert "1 has not ended and will be refused" in html
    assert [run.id for run in failed[:9]] == row_ids(html)[1:]
    assert len(row_ids(html)) == 10
    assert "The action cannot start now" in html
    assert BulkAction.select().count() == 0


def test_ticked_runs_are_confirmed_by_id(operator: Browser) -> None:
    run, two = create_run(TASK, "failed"), create_run(TASK, "failed")
    create_run(TASK, "failed")
    html = operator.get(f"/bulk/new?verb=cancel&run={run.id}&run={two.id}").text
    assert "Cancel 2 runs?" in html
    assert "2 have ended and will be refused" in html
    assert set(fields_of(html)["run"]) == {run.id, two.id}


@pytest.mark.parametrize("url", ["/bulk/new?verb=retry", "/bulk/new?verb=retry&q=&state=all&task="])
def test_bulk_action_on_all_runs_is_rejected(operator: Browser, url: str) -> None:
    create_run(TASK, "failed")
    assert operator.get(url).status_code == 422
    for search in ("", "   ", f"before:{now().isoformat()}"):
        shown = preflight(all_matching(RunQuery()), 1).fingerprint
        assert operator.send("/bulk", verb="retry", search=search, fingerprint=shown, total="1").status_code == 422
    assert (BulkAction.select().count(), AuditEntry.select().where(AuditEntry.action == "bulk.retry").count()) == (0, 0)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"verb": "purge", "search": "state:failed"}, "verb"),
        ({"verb": "retry", "search": "state:broken"}, "search"),
    ],
)
def test_invalid_bulk_form_is_rejected_by_field(operator: Browser, form: dict[str, str], field: str) -> None:
    answer = operator.send("/bulk", **form, fingerprint="x", total="1")
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text


def test_selection_over_the_limit_is_rejected(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_ITEMS", 3)
    for _ in range(4):
        create_run(TASK, "failed")
    assert "More than 3 runs match" in operator.get("/bulk/new?verb=retry&state=failed").text
    with pytest.raises(InvalidInput):
        execute(create_actor(), "bulk.retry", fingerprint="x", search="state:failed")
    assert (BulkAction.select().count(), BulkActionItem.select().count()) == (0, 0)


def test_viewer_gets_no_bulk_action_and_only_an_admin_deletes(app: Flask, sqlite_database: None) -> None:
    run = create_run(TASK, "failed")
    viewer, operator = sign_in_browser(app, "viewer"), sign_in_browser(app, "operator")
    assert viewer.get("/bulk/new?verb=retry&state=failed").status_code == 403
    assert 'name="run"' not in viewer.get("/runs").text
    assert 'value="delete"' not in operator.get("/runs").text
    html = operator.get("/bulk/new?verb=delete&state=failed").text
    assert "Requires the admin role." in html
    assert "<form" not in html.partition("<main")[2]
    shown = preflight(by_ids([run.id]), 1).fingerprint
    assert operator.send("/bulk", verb="delete", run=run.id, fingerprint=shown, total="1").status_code == 403
    with pytest.raises(ForbiddenError):
        execute(create_actor("viewer"), "bulk.retry", fingerprint=shown, runs=[run.id])
    assert BulkAction.select().count() == 0


# --- the confirmed runs are the changed runs -----------------------------------------------------------------


def test_changed_selection_is_rejected_and_confirmed_again(any_db_operator: Browser) -> None:
    create_consumer("light")
    run, two = create_run(TASK, "failed"), create_run(TASK, "failed")
    form = fields_of(any_db_operator.get("/bulk/new?verb=retry&state=failed").text)
    Run.update(state="succeeded").where(Run.id == run.id).execute()
    create_run(TASK, "failed", enqueued_at=now() - timedelta(hours=1))
    create_run(TASK, "failed", enqueued_at=now() - timedelta(hours=2))
    del form["run"]
    answer = any_db_operator.send("/bulk", **form)
    assert answer.status_code == 409
    assert "There were 2, now there are 3." in answer.text
    assert "Retry 3 runs?" in answer.text
    assert (BulkAction.select().count(), BulkActionItem.select().count()) == (0, 0)
    again = fields_of(answer.text)
    del again["run"]
    assert any_db_operator.send("/bulk", **again).status_code == 303
    assert {item.run_id for item in BulkActionItem.select()} >= {two.id}
    assert run.id not in {item.run_id for item in BulkActionItem.select()}


def test_runs_enqueued_after_the_confirmation_are_left_out(operator: Browser) -> None:
    create_consumer("light")
    run = create_run(TASK, "failed", enqueued_at=now() - timedelta(minutes=1))
    form = fields_of(operator.get(f"/bulk/new?verb=retry&task={TASK}&last=24h").text)
    create_run(TASK, "failed", enqueued_at=now() + timedelta(seconds=1))
    del form["run"]
    assert operator.send("/bulk", **form).status_code == 303
    assert [item.run_id for item in BulkActionItem.select()] == [run.id]


def test_bulk_retry_runs_as_a_task_with_audit_row_and_result_page(any_db_operator: Browser) -> None:
    create_consumer("light")
    failed = [create_run(TASK, "failed", kwargs={"hours": 24}, error="ValueError: no", attempts=1) for _ in range(3)]
    form = fields_of(any_db_operator.get("/bulk/new?verb=retry&state=failed").text)
    del form["run"]
    begun = BulkAction.get_by_id(int(any_db_operator.send("/bulk", **form).location.rpartition("/")[2]))
    assert (begun.verb, begun.total, begun.asked_by) == ("retry", 3, "operator@example.org")
    with process_one_run():
        pass
    assert set(results(begun).values()) == {("done", None)}
    for run in failed:
        again = Run.get_by_id(run.id)
        assert (again.state, again.error) == ("waiting", None)
    assert tasks.light.storage.messages.count_waiting() == 3
    (line,) = AuditEntry.select().where(AuditEntry.action.startswith("bulk"))
    assert (line.target, line.after["count"], line.after["run"]) == (str(begun.id), 3, begun.run_id)
    assert line.after["search"].startswith("state:failed before:")
    html = any_db_operator.get(f"/bulk/{begun.id}").text
    assert "3 of 3" in html
    assert html.count("done</span>") == 3
    assert f'href="/runs/{begun.run_id}"' in html
    assert f'href="/bulk/{begun.id}?state=done">3</a>' in any_db_operator.get("/bulk").text


# --- each verb -----------------------------------------------------------------------------------------------


def test_retry_takes_ended_runs_and_gives_reasons_for_the_rest(each_database: str) -> None:
    ended = {state: create_run(TASK, state) for state in ("failed", "succeeded", "cancelled")}
    going, strange, gone = create_run(TASK, "running"), create_run("no_such_task", "failed"), create_run(TASK, "failed")
    tasks.light.storage.messages.write(tasks.light.enqueue_effects(tasks.get_cleanup_statistics.s(id=going.id)))
    begun = create_bulk("retry")
    gone.delete_instance()
    assert process(tasks.queues, begun.id) == {"done": 3, "refused": 3, "total": 6}
    outcomes = results(begun)
    assert {outcomes[run.id] for run in ended.values()} == {("done", None)}
    assert outcomes[going.id] == ("refused", batch.NOT_ENDED)
    assert outcomes[strange.id] == ("refused", batch.UNKNOWN_TASK)
    assert outcomes[gone.id] == ("refused", batch.NOT_ON_RECORD)
    assert BulkAction.get_by_id(begun.id).ended_at


def test_cancel_takes_waiting_runs_and_refuses_ended_ones(each_database: str) -> None:
    waiting = [tasks.get_cleanup_statistics().id for _ in range(2)] + [
        tasks.get_cleanup_statistics.schedule(delay=60).id
    ]
    batch.flush_events(tasks.queues)
    over = create_run(TASK, "failed")
    begun = create_bulk("cancel")
    assert process(tasks.queues, begun.id) == {"done": 3, "refused": 1, "total": 4}
    assert results(begun)[over.id] == ("refused", batch.NOT_PENDING)
    assert {Run.get_by_id(run).state for run in waiting} == {"cancelled"}
    assert tasks.light.storage.messages.count_waiting() == tasks.light.storage.messages.count_scheduled() == 0


def test_cancelled_running_run_is_listed_as_asked_to_stop(operator: Browser) -> None:
    running = tasks.get_cleanup_statistics()
    batch.flush_events(tasks.queues)
    tasks.light.set_worker_identity("here", "Worker-1")
    assert tasks.light.dequeue() is not None
    begun = create_bulk("cancel")
    assert process(tasks.queues, begun.id) == {"done": 1, "refused": 0, "total": 1}
    assert results(begun)[running.id] == ("done", batch.STOP_REQUESTED)
    assert "The run is being interrupted." in operator.get(f"/bulk/{begun.id}").text


def test_delete_removes_run_attempts_log_and_counts(each_database: str) -> None:
    at = now()
    kept = create_run(TASK, "succeeded", ended_at=at, wait_ms=3, run_ms=5)
    gone = [create_run(TASK, "failed", ended_at=at, wait_ms=3, run_ms=5) for _ in range(2)]
    going = create_run(TASK, "running")
    for run in (kept, *gone):
        create_attempt(run, 1, "failed", ended_at=at, next_at=at)
        LogLine.create(run_id=run.id, delivery=1, number=1, at=at, level="INFO", logger="x", text="line")
        deltas = Counter(run_counts.counter_keys(run))
        deltas[run_counts.counter_key(run, at, run_counts.RETRIED)] += 1
        run_counts.increment(deltas)
    begun = create_bulk("delete")
    BulkActionItem.delete().where(BulkActionItem.run_id == kept.id).execute()
    assert process(tasks.queues, begun.id)["done"] == 2
    assert results(begun)[going.id] == ("refused", batch.NOT_ENDED)
    assert {run.id for run in Run.select()} == {kept.id, going.id}
    assert [run.run_id for run in Attempt.select()] == [run.run_id for run in LogLine.select()] == [kept.id]
    kept_for_ever = RunCount.span == run_counts.ALL_TIME
    left = {(row.span, row.what): row.count for row in RunCount.select().where(~kept_for_ever) if row.count}
    for span in run_counts.SPANS:
        for what in ("succeeded", "waited", "ran", "retried"):
            assert left.pop((span, what)) == 1
    assert left == {}


# --- interrupted, repeated, stopped --------------------------------------------------------------------------


class Killed(BaseException):
    """The death of a worker."""


def test_interrupted_batch_is_finished_by_the_next_execution(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_SIZE", 2)
    failed = [create_run(TASK, "failed", enqueued_at=now() - timedelta(minutes=9 - number)) for number in range(5)]
    begun = create_bulk("retry")

    def killed(*_args: Any) -> None:
        raise Killed

    monkeypatch.setattr(bulk, "finish_batch", killed)
    with pytest.raises(Killed):  # both of the first batch are re-queued, but not yet recorded
        process(tasks.queues, begun.id)
    assert Counter(state for state, _ in results(begun).values()) == {"doing": 2, "waiting": 3}
    monkeypatch.undo()
    assert process(tasks.queues, begun.id) == {"done": 5, "refused": 0, "total": 5}
    assert set(results(begun).values()) == {("done", None)}
    assert tasks.light.storage.messages.count_waiting() == 5
    assert process(tasks.queues, begun.id) == {"done": 5, "refused": 0, "total": 5}
    assert {Run.get_by_id(run.id).state for run in failed} == {"waiting"}


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_interrupted_cancel_or_delete_is_finished_by_the_next_execution(
    sqlite_database: None, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "delete":
        create_run(TASK, "failed")
    else:
        tasks.get_cleanup_statistics()
        batch.flush_events(tasks.queues)
    begun = create_bulk(verb)
    with monkeypatch.context() as broken:
        broken.setattr(bulk, "finish_batch", lambda *_args: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            process(tasks.queues, begun.id)
    assert process(tasks.queues, begun.id) == {"done": 1, "refused": 0, "total": 1}


def test_concurrent_executions_handle_each_run_once(each_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_SIZE", 2)
    for _ in range(6):
        create_run(TASK, "failed")
    begun, done = create_bulk("retry"), []
    inner = bulk.HANDLERS["retry"]

    def in_the_middle(queues: Any, run_ids: list[str], by: Requester) -> dict[str, str]:
        done.extend(run_ids)
        if len(done) == 2:
            monkeypatch.setattr(bulk, "reset_claimed", lambda *_args: [])
            process(tasks.queues, begun.id)
        return inner(queues, run_ids, by)

    monkeypatch.setitem(bulk.HANDLERS, "retry", in_the_middle)
    process(tasks.queues, begun.id)
    assert len(done) == len(set(done)) == 6
    assert tasks.light.storage.messages.count_waiting() == 6
    assert (BulkAction.get().done, BulkAction.get().refused) == (6, 0)


def test_stopped_bulk_leaves_the_remaining_runs_alone(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_SIZE", 2)
    for _ in range(6):
        create_run(TASK, "failed")
    begun = create_bulk("retry")
    progress: list[tuple[int, int]] = []

    def after_the_first_batch(done: int, total: int) -> None:
        progress.append((done, total))
        operator.send(f"/bulk/{begun.id}/stop")

    process(tasks.queues, begun.id, after_the_first_batch)
    assert progress == [(2, 6), (4, 6)]
    assert Counter(state for state, _ in results(begun).values()) == {"done": 4, "skipped": 2}
    html = operator.get(f"/bulk/{begun.id}?state=skipped").text
    assert "stopped" in html
    assert html.count("skipped</span>") == 2
    assert operator.send(f"/bulk/{begun.id}/stop").status_code == 409
    assert [line.action for line in AuditEntry.select() if line.action.startswith("bulk")] == ["bulk.stop"]


def test_bulk_is_not_stored_when_its_task_cannot_be_enqueued(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run(TASK, "failed")
    form = fields_of(operator.get("/bulk/new?verb=retry&state=failed").text)
    del form["run"]
    monkeypatch.setattr(bulk_deeds, "TASK", "no_such_task")
    assert operator.send("/bulk", **form).status_code == 404
    assert (BulkAction.select().count(), BulkActionItem.select().count()) == (0, 0)


# --- pages ---------------------------------------------------------------------------------------------------


def test_items_are_paged_and_filtered_by_result(operator: Browser) -> None:
    for _ in range(70):
        create_run(TASK, "failed")
    begun = create_bulk("retry")
    BulkActionItem.update(state="refused", reason=batch.NOT_ENDED).where(BulkActionItem.number <= 3).execute()
    url, seen = f"/bulk/{begun.id}", []
    while url:
        html = operator.get(url).text
        seen += re.findall(r'id="item-(\d+)"', html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert seen == [str(number) for number in range(1, 71)]
    assert operator.get(f"/bulk/{begun.id}?state=refused").text.count("The run has not ended.") == 3
    assert operator.get("/bulk/999").status_code == 404
    assert operator.get(f"/bulk/{begun.id}?after=x").status_code == 422


def test_old_bulks_are_deleted(each_database: str) -> None:
    create_run(TASK, "failed")
    old, new = create_bulk("retry"), create_bulk("retry")
    BulkAction.update(created_at=now() - timedelta(days=31)).where(BulkAction.id == old.id).execute()
    bulk.delete_older(now() - bulk.RETENTION)
    assert [row.id for row in BulkAction.select()] == [item.bulk_id for item in BulkActionItem.select()] == [new.id]


def test_bulk_delete_takes_few_statements(each_database: str, count_statements: Callable[[], int]) -> None:
    for _ in range(150):
        create_run(TASK, "failed")
    begun = create_bulk("delete")
    process(tasks.queues, begun.id)
    assert Run.select().count() == 0
    assert count_statements() < 150


@pytest.fixture
def count_statements(each_database: str) -> Callable[[], int]:
    sent: list[str] = []

    def counted() -> int:
        return len([sql for sql in sent if not sql.startswith('INSERT INTO "dewey_runs"')])

    database.obj.query_hooks.append(lambda event: sent.append(event.sql))
    return counted
