"""Help page: glossary, states, numbers and troubleshooting. The glossary is the source of all terms."""

from typing import NamedTuple

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

from admin.auth.access import requires_role
from admin.display.labels import STATE_LABELS
from admin.pages.blueprint import NAVIGATION, blueprint


class GlossaryEntry(NamedTuple):
    """`anchor`: element id of the entry, used in links."""

    anchor: str
    name: LazyString
    meaning: LazyString


class TroubleAnswer(NamedTuple):
    """`pages`: endpoints of related pages. `commands`: terminal commands."""

    anchor: str
    question: LazyString
    answer: tuple[LazyString, ...]
    pages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


GLOSSARY = (
    GlossaryEntry(
        "run",
        lazy_gettext("run"),
        lazy_gettext("One call of a task, from enqueuing to its end. Its ID stays the same through every retry."),
    ),
    GlossaryEntry(
        "attempt",
        lazy_gettext("attempt"),
        lazy_gettext("One execution of a run. A failed task is attempted again as often as its retries allow."),
    ),
    GlossaryEntry(
        "delivery",
        lazy_gettext("delivery"),
        lazy_gettext(
            "The dispatch of a run to a worker. If the worker dies, the run returns to the queue and is delivered "
            "again. After too many worker crashes the run is dead."
        ),
    ),
    GlossaryEntry(
        "consumer",
        lazy_gettext("consumer"),
        lazy_gettext(
            "A process that serves one queue. It has one or more workers. Each worker runs one task at a time."
        ),
    ),
    GlossaryEntry(
        "tick",
        lazy_gettext("tick"),
        lazy_gettext(
            "A minute at which the schedule starts a task. Each tick starts one run, no matter how many consumers "
            "there are. A tick is missed when no consumer was running. Some tasks catch up once."
        ),
    ),
    GlossaryEntry(
        "priority",
        lazy_gettext("priority"),
        lazy_gettext(
            "Higher priorities start first within a queue. One step equals one minute of waiting, so every run "
            "starts eventually."
        ),
    ),
    GlossaryEntry(
        "retry",
        lazy_gettext("retry"),
        lazy_gettext("Re-queues the same run. Its ID stays, its attempt count continues, its old result is dropped."),
    ),
    GlossaryEntry(
        "again",
        lazy_gettext("run again"),
        lazy_gettext("Creates a new run of the same task. You can edit its arguments. The old run becomes its parent."),
    ),
    GlossaryEntry(
        "cancel",
        lazy_gettext("cancel"),
        lazy_gettext(
            "Removes a waiting run from its queue and interrupts a running one. A worker that does not stop within "
            "a second is killed."
        ),
    ),
    GlossaryEntry(
        "pause",
        lazy_gettext("pause"),
        lazy_gettext(
            "A paused queue or task starts no more runs. Running tasks continue. A paused schedule starts no "
            "scheduled runs, but you can still run the task by hand."
        ),
    ),
    GlossaryEntry(
        "purge",
        lazy_gettext("purge"),
        lazy_gettext("Cancels all waiting runs of a queue. Scheduled and running runs are not affected."),
    ),
    GlossaryEntry(
        "abandoned",
        lazy_gettext("abandoned session"),
        lazy_gettext(
            "A reading session that has been open longer than the settings allow. The cleanup runs every half hour "
            "and closes such sessions."
        ),
    ),
)

#: Meaning of each state, in the order of a run's life. The last four are states of consumers.
MEANINGS = {
    "waiting": lazy_gettext("The run is in its queue. No worker has taken it yet."),
    "scheduled": lazy_gettext(
        "The run is due later, waits for its rate limit, or waits for a consumer that has its task. It enters "
        "its queue automatically."
    ),
    "running": lazy_gettext("A worker is executing the run."),
    "retrying": lazy_gettext("The last attempt failed. The next one starts automatically."),
    "succeeded": lazy_gettext("The run ended without an error."),
    "failed": lazy_gettext("The last attempt failed or hit the time limit. No further attempt follows."),
    "cancelled": lazy_gettext("A user or the code cancelled the run before or while it ran."),
    "expired": lazy_gettext("The run did not start before its deadline, so it was not executed."),
    "dead": lazy_gettext(
        "The run crashed too many workers, its message cannot be read, or no consumer had its task in time. "
        "The message is kept until you re-queue or discard it."
    ),
    "live": lazy_gettext("The consumer sends heartbeats."),
    "late": lazy_gettext("The heartbeat is late. The consumer still holds its runs."),
    "lost": lazy_gettext("No heartbeat for one lease period. Its runs were returned to the queue."),
    "stopped": lazy_gettext("The consumer stopped normally."),
}

NUMBERS = (
    GlossaryEntry(
        "outcomes",
        lazy_gettext("succeeded, failed, dead, retried"),
        lazy_gettext(
            "The number of runs that ended this way in the given time. Each run is counted once. “Retried” counts "
            "ended runs that took more than one attempt."
        ),
    ),
    GlossaryEntry(
        "failure-rate",
        lazy_gettext("failure rate"),
        lazy_gettext(
            "The share of failed and dead runs among all ended runs. Cancelled and expired runs do not count."
        ),
    ),
    GlossaryEntry(
        "percentiles",
        lazy_gettext("p50, p95 and p99"),
        lazy_gettext(
            "50, 95 or 99 of 100 runs took no longer than this. Durations are stored in buckets, each 20 percent "
            "wider than the one before, so the value is the limit of a bucket."
        ),
    ),
    GlossaryEntry(
        "waited",
        lazy_gettext("waited"),
        lazy_gettext("The time from enqueuing, or from the due time, to the start of the first attempt."),
    ),
    GlossaryEntry(
        "depth",
        lazy_gettext("waiting, oldest"),
        lazy_gettext("The number of runs that wait now, and the wait of the oldest one. Read from the broker."),
    ),
    GlossaryEntry(
        "drift",
        lazy_gettext("start delay"),
        lazy_gettext("The time from the tick to the start of the run. The run waits for a free worker."),
    ),
    GlossaryEntry(
        "bounded",
        lazy_gettext("10,000+"),
        lazy_gettext("Lists are counted only up to this number, so that pages stay fast. Totals are always exact."),
    ),
)

TROUBLES = (
    TroubleAnswer(
        "nothing-runs",
        lazy_gettext("Why is nothing running?"),
        (
            lazy_gettext(
                "Look at the overview first. It shows the cause and the fix: no consumer serves the queue, the queue "
                "or task is paused, or all workers are busy."
            ),
            lazy_gettext("The page of a run lists every cause under “Why is it not running?”."),
        ),
        ("pages.overview", "pages.queues", "pages.workers"),
        ("dewey status", "dewey why RUN", "dewey resume light"),
    ),
    TroubleAnswer(
        "not-by-itself",
        lazy_gettext("A scheduled task does not start"),
        (
            lazy_gettext(
                "The schedule page shows the last run of each task, its missed ticks with their causes, and the state "
                "of its scheduler. Every consumer runs a scheduler for its queue. There is no separate program."
            ),
            lazy_gettext("Schedule times are in UTC."),
        ),
        ("pages.schedule",),
        ("dewey schedule list", "dewey schedule catch-up TASK"),
    ),
    TroubleAnswer(
        "too-long",
        lazy_gettext("A task takes too long"),
        (
            lazy_gettext(
                "At the soft limit the task gets an exception. At the hard limit its worker is killed. Both count as a "
                "failed attempt. The worker's page shows the current stack trace."
            ),
            lazy_gettext(
                "The cleanup works in batches and shows its progress. Smaller batches hold shorter locks "
                "(CLEANUP_BATCH_SIZE)."
            ),
        ),
        ("pages.workers", "pages.tasks"),
        ("dewey workers dump WORKER", "dewey cancel RUN"),
    ),
    TroubleAnswer(
        "no-result",
        lazy_gettext("A result is missing"),
        (
            lazy_gettext(
                "Code can fetch a result from the queue for RESULT_TTL_SECONDS. The run's page keeps it for "
                "HISTORY_DAYS, or FAILED_HISTORY_DAYS if the run failed."
            ),
        ),
        ("pages.runs",),
    ),
    TroubleAnswer(
        "memory",
        lazy_gettext("A worker uses too much memory"),
        (
            lazy_gettext(
                "A worker above WORKER_MAX_MEMORY_MB is replaced after its task. If the task itself needs that much, "
                "start fewer workers."
            ),
        ),
        ("pages.workers",),
    ),
    TroubleAnswer(
        "twice",
        lazy_gettext("A run was executed twice"),
        (
            lazy_gettext(
                "The worker died or its consumer sent no heartbeat for too long, before the run was acknowledged. "
                "The run's page lists each delivery. This way no run is lost, but tasks must be safe to run twice. "
                "The cleanup is safe."
            ),
            lazy_gettext("A unique task is not enqueued again while its first run waits or runs."),
        ),
        ("pages.runs",),
    ),
    TroubleAnswer(
        "dead-runs",
        lazy_gettext("There are dead runs"),
        (
            lazy_gettext(
                "Dead runs wait for a decision and do not block other runs. Re-queue a run when its cause is fixed. "
                "Discard a run that is no longer needed."
            ),
        ),
        ("pages.dead",),
        ("dewey dead list", "dewey dead requeue RUN", "dewey dead discard RUN"),
    ),
    TroubleAnswer(
        "session-open",
        lazy_gettext("A session is still open"),
        (
            lazy_gettext(
                "The session is younger than the limit, or the database rejects its row. In the second case the log of "
                "the last cleanup names the session and the reason. The preview shows what the next cleanup would "
                "close."
            ),
        ),
        ("pages.sessions", "pages.cleanup"),
        ("dewey run-task close_abandoned_sessions --wait",),
    ),
    TroubleAnswer(
        "dropped",
        lazy_gettext("Events were dropped"),
        (
            lazy_gettext(
                "The database was unavailable for too long, and the broker could not keep all history events. The "
                "tasks themselves ran. The overview shows how many events are missing from the history."
            ),
        ),
        ("pages.overview",),
    ),
)


LABELS = {item.endpoint: item.label for group in NAVIGATION for item in group}
LABELS["pages.cleanup"] = lazy_gettext("Preview")


@blueprint.get("/help")
@requires_role("viewer")
def help() -> ResponseReturnValue:
    states = [GlossaryEntry(f"state-{name}", STATE_LABELS[name], meaning) for name, meaning in MEANINGS.items()]
    return render_template(
        "system/help.html", states=states, words=GLOSSARY, numbers=NUMBERS, troubles=TROUBLES, labels=LABELS
    )
