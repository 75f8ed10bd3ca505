"""Timeline of a run: enqueued, attempts, returns to the queue, retries, end."""

from dataclasses import dataclass, field
from datetime import datetime

from flask_babel import gettext as _
from flask_babel import ngettext

from admin.display.labels import requester_text
from admin.display.numbers import format_duration, format_number
from admin.display.truncate import truncate
from engine.models import Attempt, AttemptState, Run, State

#: Attempts shown at the beginning and at the end of a long timeline.
FIRST_SHOWN, LAST_SHOWN = 2, 8

#: Shortest wait shown, in milliseconds; longest error text, in bytes.
MIN_WAIT_MS, MAX_ERROR_BYTES = 1000, 300

#: States of attempts whose run goes back to its queue, and the colour of the dots of attempts.
CUT_SHORT = (AttemptState.DIED, AttemptState.RETURNED)
DOTS: dict[str, str] = {AttemptState.DIED: "dead", AttemptState.RETURNED: "waiting", AttemptState.PUT_OFF: "waiting"}


@dataclass
class Step:
    """A step of the timeline. `state` sets the colour of its dot; `duration_text`, `since` or `due` end its line."""

    state: str
    text: str
    at: datetime | None = None
    details: list[str] = field(default_factory=list)
    worker: str | None = None
    error: str | None = None
    duration_text: str | None = None
    since: datetime | None = None
    due: datetime | None = None


def build_timeline(run: Run, attempts: list[Attempt]) -> list[Step]:
    steps = [enqueued_step(run)]
    for index, attempt in enumerate(attempts):
        if FIRST_SHOWN <= index < len(attempts) - LAST_SHOWN:
            steps += [omitted_step(len(attempts) - FIRST_SHOWN - LAST_SHOWN)] if index == FIRST_SHOWN else []
            continue
        steps.append(attempt_step(run, attempt, attempts[index - 1] if index else None))
        if attempt.state in CUT_SHORT and attempt.ended_at:
            steps.append(returned_step(attempt, attempts[index + 1] if index + 1 < len(attempts) else None))
    return steps + closing_steps(run, attempts)


def omitted_step(attempts: int) -> Step:
    return Step("waiting", ngettext("%(num)s attempt not shown", "%(num)s attempts not shown", attempts))


def enqueued_step(run: Run) -> Step:
    if run.priority is None:
        text = _("Queued on %(queue)s", queue=run.queue)
    else:
        text = _("Queued on %(queue)s, priority %(priority)s", queue=run.queue, priority=format_number(run.priority))
    details = [_("requested by %(who)s", who=requester_text(run))]
    return Step("waiting", text, at=run.enqueued_at, details=details, duration_text=waited_text(run.wait_ms))


def attempt_step(run: Run, attempt: Attempt, before: Attempt | None) -> Step:
    state = State.FAILED if attempt.state == State.RETRYING else attempt.state
    step = Step(
        DOTS.get(state, state),
        attempt_text(attempt),
        at=attempt.started_at,
        details=[*code_note(run, attempt), *waited_in_queue(before, attempt)],
        worker=attempt.worker,
        duration_text=ran_text(attempt.run_ms),
        since=attempt.started_at if state == State.RUNNING else None,
    )
    if state not in CUT_SHORT:
        add_error(step, attempt.error)
    step.details += pause_before_next(attempt)
    return step


def code_note(run: Run, attempt: Attempt) -> list[str]:
    """Return a line if the worker ran another code version than the program that enqueued the run."""
    differs = attempt.code_version and run.code_version and attempt.code_version != run.code_version
    return [_("code version %(version)s", version=attempt.code_version)] if differs else []


def waited_in_queue(before: Attempt | None, attempt: Attempt) -> list[str]:
    """Return a line if the attempt started later than the attempt before it allowed."""
    if not (before and before.next_at and attempt.started_at):
        return []
    ms = (attempt.started_at - before.next_at).total_seconds() * 1000
    return [_("after %(time)s in the queue", time=format_duration(ms))] if ms >= MIN_WAIT_MS else []


def pause_before_next(attempt: Attempt) -> list[str]:
    if not (attempt.next_at and attempt.ended_at):
        return []
    ms = (attempt.next_at - attempt.ended_at).total_seconds() * 1000
    return [_("next attempt after %(time)s", time=format_duration(max(ms, 0)))]


def attempt_text(attempt: Attempt) -> str:
    values = {"number": attempt.attempt}
    match attempt.state:
        case State.RUNNING:
            return _("Attempt %(number)s is running", **values)
        case State.SUCCEEDED:
            return _("Attempt %(number)s succeeded", **values)
        case State.FAILED | State.RETRYING:
            return _("Attempt %(number)s failed", **values)
        case State.CANCELLED:
            return _("Attempt %(number)s was interrupted", **values)
        case AttemptState.DIED:
            return _("Attempt %(number)s was interrupted: the worker died", **values)
        case AttemptState.RETURNED:
            return _("Attempt %(number)s was returned to the queue: the worker was stopped", **values)
        case AttemptState.PUT_OFF:
            return _("Put off: the consumer has no such task")
        case State.DEAD:
            return _("Attempt %(number)s could not start", **values)
        case State.SCHEDULED:
            return _("Attempt %(number)s rescheduled itself", **values)
    return _("Attempt %(number)s: %(state)s", **values, state=attempt.state)


def returned_step(attempt: Attempt, following: Attempt | None) -> Step:
    step = Step("waiting", _("Returned to the queue"), at=attempt.ended_at, error=first_error_line(attempt.error))
    if attempt.ended_at and following and following.started_at:
        step.duration_text = waited_text((following.started_at - attempt.ended_at).total_seconds() * 1000)
    return step


def closing_steps(run: Run, attempts: list[Attempt]) -> list[Step]:
    match run.state:
        case State.WAITING if attempts and attempts[-1].state in CUT_SHORT:
            return []  # the last attempt already shows it
        case State.WAITING:
            text = _("Returned to the queue") if attempts else _("Waiting for a worker")
            return [Step("waiting", text, since=None if attempts else run.due_at or run.enqueued_at)]
        case State.SCHEDULED if attempts and attempts[-1].state == AttemptState.PUT_OFF:
            return [Step("scheduled", _("Waiting for a consumer that has the task"), since=attempts[-1].ended_at)]
        case State.SCHEDULED:
            return [Step("scheduled", _("Due"), at=run.due_at, due=run.due_at)]
        case State.RETRYING:
            number = attempts[-1].attempt + 1 if attempts else 1
            text = _("Attempt %(number)s is due", number=number)
            return [Step("retrying", text, at=run.due_at, due=run.due_at)]
        case State.CANCELLED | State.EXPIRED | State.DEAD:
            return [add_error(Step(run.state, final_label(run), at=run.ended_at), run.error)]
        case State.SUCCEEDED | State.FAILED if not attempts:
            return [Step(run.state, final_label(run), at=run.ended_at, duration_text=ran_text(run.run_ms))]
    return []


def add_error(step: Step, error: str | None) -> Step:
    """Add the cause to the step: as an error, or as a detail if the run was cancelled."""
    if step.state != State.CANCELLED:
        step.error = first_error_line(error)
    elif line := first_error_line(error):
        step.details.append(line)
    return step


def final_label(run: Run) -> str:
    """Return the label for the end of a run without an attempt that shows it."""
    match run.state:
        case State.CANCELLED:
            return _("Cancelled")
        case State.EXPIRED:
            return _("Expired before it started")
        case State.DEAD:
            return _("Moved to the dead runs")
        case State.SUCCEEDED:
            return _("Succeeded")
    return _("Failed")


def waited_text(ms: float | None) -> str | None:
    return None if ms is None else _("waited %(time)s", time=format_duration(ms))


def ran_text(ms: float | None) -> str | None:
    return None if ms is None else _("ran %(time)s", time=format_duration(ms))


def first_error_line(error: str | None) -> str | None:
    return truncate((error or "").strip().partition("\n")[0], MAX_ERROR_BYTES).shown or None


def error_kind(error: str | None) -> str:
    """Return the exception's name from the beginning of `error`."""
    return (first_error_line(error) or _("An error")).partition(":")[0]
