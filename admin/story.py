"""A run told down a line: asked, waited, started, died, failed, due again, ended."""

from dataclasses import dataclass
from datetime import datetime

from admin.words import asker
from engine.records import Attempt, Run, State

#: What became of an attempt, behind its number.
ENDINGS = {
    State.RUNNING: "Attempt %s is running",
    State.SUCCEEDED: "Attempt %s succeeded",
    State.FAILED: "Attempt %s failed",
    State.RETRYING: "Attempt %s failed",
    State.CANCELLED: "Attempt %s was interrupted",
    "died": "Attempt %s was cut off: its worker died",
}

#: The end of a run that no attempt tells of.
ENDS = {
    State.CANCELLED: "Cancelled",
    State.EXPIRED: "Expired: it was not started in time",
    State.DEAD: "Given up: it is dead",
}


@dataclass
class Step:
    """`state` colours the dot. At the line's end stands how long it took, since when it lasts or when it is due."""

    state: str
    text: str
    at: datetime | None = None
    detail: str | None = None
    error: str | None = None
    lasted: str | None = None  # waited, ran
    ms: float | None = None
    since: datetime | None = None
    due: datetime | None = None


def story(run: Run, attempts: list[Attempt]) -> list[Step]:
    steps = [asked(run)]
    for attempt in attempts:
        steps += tried(attempt)
    return steps + what_is_next(run, attempts)


def asked(run: Run) -> Step:
    priority = "" if run.priority is None else f", priority {run.priority:g}"
    return Step(
        "waiting",
        f"Queued on {run.queue}{priority}",
        at=run.enqueued_at,
        detail=f"asked by {asker(run)}",
        lasted="waited",
        ms=run.wait_ms,
    )


def tried(attempt: Attempt) -> list[Step]:
    state = State.FAILED if attempt.state == State.RETRYING else attempt.state
    step = Step(
        "dead" if state == "died" else state,
        ENDINGS.get(attempt.state, f"Attempt %s: {attempt.state}") % attempt.attempt,
        at=attempt.started_at,
        detail=attempt.worker,
        error=None if state == "died" else last_line(attempt.error),
        lasted="ran",
        ms=attempt.run_ms,
    )
    if state == State.RUNNING:
        step.since = attempt.started_at
    return [step]


def what_is_next(run: Run, attempts: list[Attempt]) -> list[Step]:
    match run.state:
        case State.WAITING:
            text = "Back in its queue" if attempts else "Waiting for a worker"
            return [Step("waiting", text, since=None if attempts else run.due_at or run.enqueued_at)]
        case State.SCHEDULED:
            return [Step("scheduled", "Due", at=run.due_at, due=run.due_at)]
        case State.RETRYING:
            number = attempts[-1].attempt + 1 if attempts else 1
            return [Step("retrying", f"Attempt {number} is due", at=run.due_at, due=run.due_at)]
        case State.CANCELLED | State.EXPIRED | State.DEAD:
            return [Step(run.state, ENDS[State(run.state)], at=run.ended_at, error=last_line(run.error))]
        case State.SUCCEEDED | State.FAILED if not attempts:
            return [Step(run.state, run.state.capitalize(), at=run.ended_at, lasted="ran", ms=run.run_ms)]
    return []


def last_line(error: str | None) -> str | None:
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else None


def kind_of(error: str | None) -> str:
    """The exception's name, as `error` begins with it."""
    return (last_line(error) or "An error").partition(":")[0]
