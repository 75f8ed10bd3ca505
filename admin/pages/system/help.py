"""Help: what the words and the numbers mean, and what to do when something is wrong."""

from typing import NamedTuple

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

from admin.auth.access import requires_role
from admin.display.labels import STATE_LABELS
from admin.pages.blueprint import NAVIGATION, blueprint


class GlossaryEntry(NamedTuple):
    """`anchor`: where it stands on the page, and what others link to."""

    anchor: str
    name: LazyString
    meaning: LazyString


class TroubleAnswer(NamedTuple):
    """`pages`: endpoints of the pages on which one looks; `commands`: what one types in the terminal."""

    anchor: str
    question: LazyString
    answer: tuple[LazyString, ...]
    pages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


GLOSSARY = (
    GlossaryEntry(
        "run",
        lazy_gettext("run"),
        lazy_gettext("One call of a task, from being asked for to its end. Its id stays the same through every retry."),
    ),
    GlossaryEntry(
        "attempt",
        lazy_gettext("attempt"),
        lazy_gettext("One execution of a run. A task that fails may be attempted again, as often as it allows."),
    ),
    GlossaryEntry(
        "delivery",
        lazy_gettext("delivery"),
        lazy_gettext(
            "One handing of a run to a worker. When the worker dies, the run comes back and is delivered again; "
            "after too many such deaths it is dead."
        ),
    ),
    GlossaryEntry(
        "consumer",
        lazy_gettext("consumer"),
        lazy_gettext(
            "A program that serves one queue. It has one or more workers, each of which runs one task at a time."
        ),
    ),
    GlossaryEntry(
        "tick",
        lazy_gettext("tick"),
        lazy_gettext(
            "A minute at which the clock starts a task. However many consumers there are, it starts one run. "
            "A tick during which no consumer ran is missed; some tasks make up for it once."
        ),
    ),
    GlossaryEntry(
        "priority",
        lazy_gettext("priority"),
        lazy_gettext(
            "The larger number goes first within its queue. One step is worth a minute of waiting, so nothing waits "
            "for ever."
        ),
    ),
    GlossaryEntry(
        "retry",
        lazy_gettext("retry"),
        lazy_gettext(
            "Puts the same run back into its queue: its id stays, its attempts are counted on, its old result goes."
        ),
    ),
    GlossaryEntry(
        "again",
        lazy_gettext("run again"),
        lazy_gettext("Makes a new run of the same task, with arguments that may be edited. The old run is its parent."),
    ),
    GlossaryEntry(
        "cancel",
        lazy_gettext("cancel"),
        lazy_gettext(
            "Takes a waiting run out of its queue and interrupts a running one. A worker that does not heed that "
            "within a second is ended."
        ),
    ),
    GlossaryEntry(
        "pause",
        lazy_gettext("pause"),
        lazy_gettext(
            "A paused queue or task hands out nothing more, and what runs goes on. A paused schedule only keeps the "
            "clock from starting its task; runs by hand start as always."
        ),
    ),
    GlossaryEntry(
        "purge",
        lazy_gettext("purge"),
        lazy_gettext("Cancels everything that waits in a queue. What is scheduled for later and what runs stays."),
    ),
    GlossaryEntry(
        "abandoned",
        lazy_gettext("abandoned session"),
        lazy_gettext(
            "A reading session that is open for longer than the settings allow. The cleanup closes it every half hour."
        ),
    ),
)

#: What each state means, in the order of a run's life; the last four are those of consumers.
MEANINGS = {
    "waiting": lazy_gettext("In its queue. Nobody works on it yet."),
    "scheduled": lazy_gettext(
        "Meant for later, held back by its rate, or waiting for a consumer that knows its task. "
        "It goes into its queue by itself when due."
    ),
    "running": lazy_gettext("A worker has it in hand."),
    "retrying": lazy_gettext("Its last attempt failed; the next one is due by itself."),
    "succeeded": lazy_gettext("Ended without an error."),
    "failed": lazy_gettext("Its last attempt failed, or was cut off at its time limit. No further one follows."),
    "cancelled": lazy_gettext("Somebody cancelled it, before it ran or while it did."),
    "expired": lazy_gettext("It was not started in time, as its caller wished, and was not run."),
    "dead": lazy_gettext(
        "It took down too many workers, its message cannot be read, or no consumer knew its task in time. "
        "The message is kept until you decide."
    ),
    "live": lazy_gettext("The consumer gives signs of life."),
    "late": lazy_gettext("It has not been heard of for a while; what it holds is still its own."),
    "lost": lazy_gettext("It has been silent for a lease. What it held is back in the queue."),
    "stopped": lazy_gettext("It ended as it was told to."),
}

NUMBERS = (
    GlossaryEntry(
        "outcomes",
        lazy_gettext("succeeded, failed, dead, retried"),
        lazy_gettext(
            "How many runs ended so within the time named, counted when they are written down, each exactly once; "
            "retried counts attempts that failed and were tried again."
        ),
    ),
    GlossaryEntry(
        "failure-rate",
        lazy_gettext("failure rate"),
        lazy_gettext(
            "Failed and dead runs, of all that came to an end by themselves: cancelled and expired ones do not count."
        ),
    ),
    GlossaryEntry(
        "percentiles",
        lazy_gettext("p50, p95 and p99"),
        lazy_gettext(
            "Half of the runs, 95 or 99 of 100, took no longer than this. Durations are kept in classes that grow by "
            "a fifth, so the figure is that of its class."
        ),
    ),
    GlossaryEntry(
        "waited",
        lazy_gettext("waited"),
        lazy_gettext("From being asked for, or from falling due, to the beginning of the first attempt."),
    ),
    GlossaryEntry(
        "depth",
        lazy_gettext("waiting in a queue, oldest"),
        lazy_gettext("How many runs wait right now, and for how long the one that came in first. Asked of the broker."),
    ),
    GlossaryEntry(
        "drift",
        lazy_gettext("starts after its tick"),
        lazy_gettext("From the tick of the clock to the beginning of the run: the wait for a free worker."),
    ),
    GlossaryEntry(
        "bounded",
        lazy_gettext("10,000+"),
        lazy_gettext("A list is counted no further than this, so that its page stays quick. Sums are exact always."),
    ),
)

TROUBLES = (
    TroubleAnswer(
        "nothing-runs",
        lazy_gettext("Why is nothing running?"),
        (
            lazy_gettext(
                "Look at the overview first: what stands in the way is said there, with the way to mend it. Either no "
                "consumer serves the queue, or the queue or the task is paused, or all workers are busy."
            ),
            lazy_gettext("The page of a single run answers “Why is it not running?” from everything there is to know."),
        ),
        ("pages.overview", "pages.queues", "pages.workers"),
        ("flask status", "flask why RUN", "flask resume light"),
    ),
    TroubleAnswer(
        "not-by-itself",
        lazy_gettext("A task does not start by itself"),
        (
            lazy_gettext(
                "The schedule shows when each task was started last, which ticks were missed and why, and whether a "
                "scheduler looks at the clock. Every consumer of its queue has one; there is no separate program."
            ),
            lazy_gettext("Times of schedules are in UTC."),
        ),
        ("pages.schedule",),
        ("flask schedule list", "flask schedule catch-up TASK"),
    ),
    TroubleAnswer(
        "too-long",
        lazy_gettext("A task takes too long"),
        (
            lazy_gettext(
                "At the soft limit the task gets an exception, at the hard one its worker is ended; both count as a "
                "failed attempt. A worker's page shows where its code is right now."
            ),
            lazy_gettext(
                "The cleanup works in batches and shows how far it is; fewer sessions at a time hold shorter locks "
                "(CLEANUP_BATCH_SIZE)."
            ),
        ),
        ("pages.workers", "pages.tasks"),
        ("flask workers dump WORKER", "flask cancel RUN"),
    ),
    TroubleAnswer(
        "no-result",
        lazy_gettext("A result is gone"),
        (
            lazy_gettext(
                "Whoever asks the queue for a result finds it for RESULT_TTL_SECONDS. The run's page keeps it as long "
                "as the history does: HISTORY_DAYS, or FAILED_HISTORY_DAYS where it failed."
            ),
        ),
        ("pages.runs",),
    ),
    TroubleAnswer(
        "memory",
        lazy_gettext("A worker uses too much memory"),
        (
            lazy_gettext(
                "It is replaced after its task when it has grown beyond WORKER_MAX_MEMORY_MB. Start fewer workers "
                "where the task itself needs that much."
            ),
        ),
        ("pages.workers",),
    ),
    TroubleAnswer(
        "twice",
        lazy_gettext("A run was executed twice"),
        (
            lazy_gettext(
                "Its worker died, or was silent for too long, before it could say that it was done. Each delivery "
                "stands on the run's page. Nothing is lost this way, so tasks must be safe to run twice; the cleanup "
                "is."
            ),
            lazy_gettext("A task declared unique does not start a second time while the first call waits or runs."),
        ),
        ("pages.runs",),
    ),
    TroubleAnswer(
        "dead-runs",
        lazy_gettext("There are dead runs"),
        (
            lazy_gettext(
                "They wait for a decision and block nothing. Re-queue what died of something that is mended by now; "
                "discard what nobody needs."
            ),
        ),
        ("pages.dead",),
        ("flask dead list", "flask dead requeue RUN", "flask dead discard RUN"),
    ),
    TroubleAnswer(
        "session-open",
        lazy_gettext("A session is still open"),
        (
            lazy_gettext(
                "It is younger than the limit, or the database refuses its row: then the log of the last cleanup "
                "names it with the reason. The preview shows what the next cleanup would close."
            ),
        ),
        ("pages.sessions", "pages.cleanup"),
        ("flask run-task close_abandoned_sessions --wait",),
    ),
    TroubleAnswer(
        "dropped",
        lazy_gettext("Events were dropped"),
        (
            lazy_gettext(
                "The database was away for so long that the broker could not keep everything that happened. The work "
                "itself was done; the history has a gap, as large as is said."
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
