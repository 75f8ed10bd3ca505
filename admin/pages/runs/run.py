"""Page of one run: timeline, causes of waiting, log, and the raw data."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from flask import Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.labels import call_text, ngettext_capped, pretty_json
from admin.display.timeline import build_timeline, error_kind
from admin.display.truncate import Truncated, html_size, truncate
from admin.i18n import current_zone
from admin.operations.allowed_actions import run_actions
from admin.operations.runs import get_run
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from config import QUEUES
from engine.history.tracebacks import Frame, parse_traceback
from engine.models import Attempt, AttemptState, Consumer, LogLine, Run, State, now
from engine.models import as_json as row_as_json
from engine.monitor.diagnosis import Cause, diagnose
from engine.search import related_runs

#: Limits of one page, in rows and bytes.
LOG_LINES, LOG_BYTES, LINE_BYTES, MOST_OTHERS = 150, 8400, 1500, 8
OWN_FRAMES, CODE_BYTES, FAILURES = 8, 400, 3
MAX_CHILDREN = 10
SHORT_CALL, LINES = 240, 16


@blueprint.app_template_filter("moment")
def format_moment(at: datetime) -> str:
    """Return the time of a log line to the millisecond, in the reader's zone."""
    return f"{at.astimezone(current_zone()):%H:%M:%S.%f}"[:-3]


@blueprint.get("/runs/<run_id>")
@requires_role("viewer")
def run(run_id: str) -> ResponseReturnValue:
    run = get_run(run_id)
    attempts = run.history
    causes = diagnose(tasks.queues, run)
    children = related_runs.child_runs(run, MAX_CHILDREN + 1)
    closed = run.instant_at and isinstance(run.result, dict) and run.result.get("closed_count")
    return live_refresh.render_page(
        "runs/run.html",
        run=run,
        causes=causes,
        in_the_way=is_blocked(causes),
        interrupted_by=causes[0].facts.get("cancelled_by"),
        offers=run_actions(run, current_actor(), causes),
        story=build_timeline(run, attempts),
        failures=load_failures(attempts),
        log=load_log(run, attempts),
        call=call_lines(run),
        result=None if run.result is None else truncate(pretty_json(run.result, 2), 2500, 4000, lines=LINES),
        related=related_runs.related_runs(run),
        children=children[:MAX_CHILDREN],
        more_children=len(children) > MAX_CHILDREN,
        worker_url=worker_url,
        queue_names=QUEUES,
        closed_url=url_for("pages.sessions", state="closed", run=run.id) if closed else None,
    )


@blueprint.get("/runs/<run_id>/raw")
@requires_role("viewer")
def run_raw(run_id: str) -> ResponseReturnValue:
    """Return the whole stored run as JSON, without truncation."""
    run = get_run(run_id)
    lines = LogLine.select().where(LogLine.run_id == run.id).order_by(LogLine.delivery, LogLine.number)
    return jsonify(
        row_as_json(run)
        | {"attempts": [row_as_json(attempt, "run_id") for attempt in run.history]}
        | {"log": [row_as_json(line, "run_id") for line in lines]}
    )


@blueprint.get("/runs/<run_id>/log")
@requires_role("viewer")
def run_log(run_id: str) -> ResponseReturnValue:
    """Return all stored log lines as text, attempt by attempt."""
    run = get_run(run_id)
    text: list[str] = []
    last: LogLine | None = None
    for line in LogLine.select().where(LogLine.run_id == run.id).order_by(LogLine.delivery, LogLine.number):
        if last is None or line.delivery != last.delivery:
            text.append(_("--- delivery %(number)s ---", number=line.delivery))
        elif line.number > last.number + 1:
            text.append(
                ngettext_capped(
                    "… %(num)s line not shown …", "… %(num)s lines not shown …", line.number - last.number - 1
                )
            )
        text.append(f"{line.at:%Y-%m-%d %H:%M:%S.%f} {line.level:<8} {line.logger}: {line.text}")
        last = line
    return Response("\n".join([*text, ""]), content_type="text/plain; charset=utf-8")


def worker_url(worker: str | None, at: datetime | None) -> str | None:
    """Return the URL of the consumer of a worker (`Worker-1 on host:pid:random`), None if it may not exist."""
    consumer = (worker or "").partition(" on ")[2]
    is_kept = at and now() - at < Consumer.RETENTION
    return url_for("pages.worker", worker_id=consumer) if consumer and is_kept else None


def is_blocked(causes: Sequence[Cause]) -> bool:
    """True unless the run is running, has succeeded, failed or died, or its history is behind."""
    kind, facts = causes[0]
    if kind == "ended":
        return facts["state"] in (State.CANCELLED, State.EXPIRED)
    return kind not in ("running", "record_behind")


def call_lines(run: Run) -> Truncated:
    """Return the call in Python syntax if it fits two lines, else the arguments as JSON."""
    call = call_text(run)
    if len(call) <= SHORT_CALL:
        return truncate(call, 6 * SHORT_CALL)
    arguments = run.kwargs if not run.args else {"args": run.args, "kwargs": run.kwargs}
    return truncate(pretty_json(arguments, 2), 1500, 2500, lines=LINES)


# --- failures ------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """`whole`: the full stack trace, for the last failure only."""

    attempt: Attempt
    kind: str
    frames: list[Frame]
    cause: Truncated
    whole: Truncated | None
    frame_count: int


def load_failures(attempts: list[Attempt]) -> list[Failure]:
    """Return the failures of a run, last first."""
    failed = [attempt for attempt in reversed(attempts) if attempt.traceback]
    return [build_failure(attempt, last=place == 0) for place, attempt in enumerate(failed[:FAILURES])]


def build_failure(attempt: Attempt, last: bool) -> Failure:
    text = attempt.traceback or ""
    traceback = parse_traceback(text)
    return Failure(
        attempt,
        error_kind(attempt.error),
        [frame._replace(code=truncate(frame.code, CODE_BYTES).shown) for frame in traceback.own[-OWN_FRAMES:]],
        truncate(traceback.cause, 1200, 2500 if last else 0),
        truncate(text, 0, 6000) if last and traceback.frames else None,
        len(traceback.frames),
    )


# --- log -----------------------------------------------------------------------------------------------------


class Log(NamedTuple):
    """The last log lines of one delivery. `lines`: pairs of the number of lines left out before, and the line."""

    delivery: int
    attempt: Attempt | None
    before: int  # lines before these
    lines: list[tuple[int, LogLine]]
    other_deliveries: list[Attempt]  # the other deliveries


def load_log(run: Run, attempts: list[Attempt]) -> Log | None:
    """Return the log of the requested delivery, by default the last one with log lines."""
    deliveries = [attempt for attempt in attempts if attempt.state != AttemptState.PUT_OFF]
    rows = last_lines(run, request.args.get("log", type=int) or (deliveries[-1].number if deliveries else 0))
    if not rows:
        return None
    delivery = rows[0].delivery
    shown = fit_lines([row for row in rows if row.delivery == delivery])
    numbers = [line.number for line in shown]
    gaps = [0, *(later - earlier - 1 for earlier, later in pairwise(numbers))]
    return Log(
        delivery,
        next((attempt for attempt in deliveries if attempt.number == delivery), None),
        numbers[0] - 1,
        list(zip(gaps, shown, strict=True)),
        [attempt for attempt in deliveries if attempt.number != delivery][-MOST_OTHERS:],
    )


def last_lines(run: Run, delivery: int) -> list[LogLine]:
    """Return the newest lines up to this delivery, newest first."""
    condition = (LogLine.run_id == run.id) & (LogLine.delivery <= delivery)
    lines = LogLine.select().where(condition).order_by(LogLine.delivery.desc(), LogLine.number.desc())
    return list(lines.limit(LOG_LINES))


def fit_lines(newest_first: list[LogLine]) -> list[LogLine]:
    """Return the newest lines that fit, oldest first, long lines cut. At least one line is returned."""
    room, lines = LOG_BYTES, list[LogLine]()
    for line in newest_first:
        line.text = truncate(line.text, LINE_BYTES).shown + ("…" if html_size(line.text) > LINE_BYTES else "")
        room -= html_size(line.text) + 100
        if room < 0 and lines:
            break
        lines.insert(0, line)
    return lines
