"""Schedule and task commands, as an operator types them."""

import json
from datetime import datetime, timedelta

from browsers import RunFlask

from engine.models import Run, Tick, now
from models import AuditEntry

CLEANUP = "close_abandoned_sessions"


def test_schedule_is_paused_for_a_time_listed_and_resumed(flask: RunFlask) -> None:
    assert flask("schedule", "pause", CLEANUP, "--for", "4h", "--reason", "migration").startswith("Schedule of")
    (row,) = [
        task_row
        for task_row in json.loads(flask("schedule", "list", "--json"))["schedules"]
        if task_row["task"] == CLEANUP
    ]
    assert (row["expression"], row["words"], len(row["next"])) == ("*/30 * * * *", "Every 30 minutes", 5)
    left = datetime.fromisoformat(row["paused"]["until"]) - now()
    assert timedelta(hours=3, minutes=58) < left <= timedelta(hours=4)
    assert "migration" in flask("schedule", "list")
    assert flask("schedule", "resume", CLEANUP) == f"Schedule of {CLEANUP} resumed."
    assert flask("schedule", "resume", CLEANUP) == f"Schedule of {CLEANUP} was not paused."
    assert AuditEntry.get(AuditEntry.action == "schedule.pause").after["reason"] == "migration"


def test_invalid_schedule_or_pause_end_is_wrong_usage(flask: RunFlask) -> None:
    for words in (
        "get_cleanup_statistics",
        "no_such_task",
        f"{CLEANUP} --for soon",
        f"{CLEANUP} --until 2020-01-01",
        f"{CLEANUP} --for 1h --until 2099-01-01",
    ):
        assert flask("schedule", "pause", *words.split(), code=2)
    assert AuditEntry.select().count() == 0


def test_scheduled_task_is_run_now_and_caught_up(flask: RunFlask) -> None:
    assert Run.get_by_id(flask("schedule", "run", CLEANUP)).asked_by_kind == "cli"
    assert "no missed tick" in flask("schedule", "catch-up", CLEANUP, code=1)
    due_at = now().replace(microsecond=0) - timedelta(hours=3)
    Tick.create(task=CLEANUP, due_at=due_at, queue="light", state="missed", seen_at=now())
    (row,) = [
        task_row
        for task_row in json.loads(flask("schedule", "list", "--json"))["schedules"]
        if task_row["task"] == CLEANUP
    ]
    assert (row["missed"], row["to_catch_up"]) == (1, due_at.isoformat())
    made = flask("schedule", "catch-up", CLEANUP)
    assert (Tick.get().state, Tick.get().run_id) == ("late", made)


def test_task_is_paused_listed_and_resumed(flask: RunFlask) -> None:
    assert (
        flask("tasks", "pause", CLEANUP, "--reason", "locks")
        == f"Task {CLEANUP} is paused. Resume it with `dewey tasks resume {CLEANUP}`."
    )
    rows = {task_row["task"]: task_row for task_row in json.loads(flask("tasks", "list", "--json"))["tasks"]}
    assert (rows[CLEANUP]["paused"]["reason"], rows[CLEANUP]["retries"]) == ("locks", 3)
    assert rows["get_cleanup_statistics"]["paused"] is None
    assert flask("tasks", "resume", CLEANUP) == f"Task {CLEANUP} resumed."
    assert flask("tasks", "resume", CLEANUP) == f"Task {CLEANUP} was not paused."
