"""Every command that a person may give, in one table. Browser, JSON and terminal are made from it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from flask_babel import gettext as _

import tasks
from admin import delivery
from admin.perform import Outcome, action
from admin.problems import BadInput, Refused
from admin.who import Who
from engine import control, roster, schedules
from engine.control import Result, run_task
from engine.queues import Queue
from engine.records import Run, now
from engine.steer_workers import What
from models import ReadingSession
from reading import sample
from reading.sessions import close_one


@action("sessions.close", "operator")
def close_session(who: Who, session_id: UUID) -> Outcome[None]:
    """Close one open reading session, whatever its age."""
    if not close_one(session_id, now()):
        known = ReadingSession.get_or_none(ReadingSession.id == session_id)
        raise Refused(_("This session is not open any more.") if known else _("There is no such session."))
    return Outcome(target=str(session_id))


def can_start(name: str, **_rest: Any) -> None:
    """Raises Paused or NoLiveWorker where a run of this task would only wait."""
    control.check_can_run(tasks.queues, name)


@action("tasks.run", "operator", in_transaction=False, can_start=can_start)
def run(
    who: Who,
    name: str,
    arguments: dict[str, Any] | None = None,
    args: list[Any] | None = None,
    eta: datetime | None = None,
    priority: float | None = None,
) -> Outcome[Result]:
    """Enqueue one run of a task, `args` being those that go by their place; gives back its handle."""
    result = run_task(tasks.queues, name, args or (), arguments, by=who.asker, eta=eta, priority=priority)
    rare = {"args": args, "eta": eta and eta.isoformat(), "priority": priority}
    told = {key: value for key, value in rare.items() if value not in (None, [])}
    return Outcome(result, result.id, after={"task": name, "arguments": arguments or {}, **told})


@action("tasks.pause", "operator", in_transaction=False)
def pause_task(who: Who, name: str, reason: str | None = None) -> Outcome[None]:
    """Hand out no more runs of this task until it is resumed; what runs goes on."""
    queue, task = control.find(tasks.queues, name)
    control.pause(queue, task=task.__name__, by=who.asker, reason=reason)
    return Outcome(target=task.__name__, after={"reason": reason})


@action("tasks.resume", "operator", in_transaction=False)
def resume_task(who: Who, name: str) -> Outcome[bool]:
    """Hand out the task's runs again; gives back whether it was paused."""
    queue, task = control.find(tasks.queues, name)
    return Outcome(control.resume(queue, task=task.__name__), task.__name__)


@action("schedule.pause", "operator", in_transaction=False)
def pause_schedule(who: Who, task: str, reason: str | None = None, until: datetime | None = None) -> Outcome[None]:
    """Let the clock start nothing of this task, until an instant or until the schedule is resumed."""
    queue, name = scheduled(task)
    if until and until <= now():
        raise BadInput("until", _("an instant in the future is needed"))
    schedules.pause(queue, name, by=who.asker, reason=reason, until=until)
    return Outcome(target=name, after={"reason": reason, "until": until and until.isoformat()})


@action("schedule.resume", "operator", in_transaction=False)
def resume_schedule(who: Who, task: str) -> Outcome[bool]:
    """Let the clock start this task again; gives back whether the schedule was paused."""
    queue, name = scheduled(task)
    return Outcome(schedules.resume(queue, name), name)


@action("schedule.run", "operator", in_transaction=False)
def run_scheduled(who: Who, task: str) -> Outcome[Result]:
    """Run a scheduled task once, now, as the clock would; gives back the run's handle."""
    _, name = scheduled(task)
    result = run_task(tasks.queues, name, by=who.asker)
    return Outcome(result, name, after={"run": result.id})


@action("schedule.catch_up", "operator", in_transaction=False)
def catch_up_schedule(who: Who, task: str) -> Outcome[Result]:
    """Run once for the newest tick that was missed; gives back the run's handle."""
    _, name = scheduled(task)
    result = schedules.catch_up(tasks.queues, name, who.asker)
    return Outcome(result, name, after={"run": result.id})


@action("library.demo", "admin")
def load_sample_library(who: Who) -> Outcome[dict[str, int]]:
    """Load the sample library into a database of our own; gives back how many rows of what."""
    try:
        counts = sample.load(now())
    except (sample.NotOwnLibrary, sample.AlreadyLoaded) as error:
        raise Refused(str(error)) from error
    return Outcome(counts, after=counts)


@action("queues.pause", "operator", in_transaction=False)
def pause_queue(who: Who, queue: str, reason: str | None = None) -> Outcome[None]:
    """Hand out nothing more of this queue until it is resumed; what runs goes on."""
    control.pause(queue_named(queue), by=who.asker, reason=reason)
    return Outcome(target=queue, after={"reason": reason})


@action("queues.resume", "operator", in_transaction=False)
def resume_queue(who: Who, queue: str) -> Outcome[bool]:
    """Hand out the queue's runs again; gives back whether it was paused."""
    return Outcome(control.resume(queue_named(queue)), queue)


@action("queues.purge", "admin", danger=True, in_transaction=False)
def purge_queue(who: Who, queue: str) -> Outcome[int]:
    """Cancel everything that waits in the queue; gives back how many runs that were."""
    purged = control.purge(queue_named(queue), who.asker)
    return Outcome(purged, queue, after={"cancelled": purged})


@action("runs.cancel", "operator", in_transaction=False)
def cancel_run(who: Who, run_id: str) -> Outcome[str]:
    """Take a waiting run out of its queue, or interrupt a running one; gives back `removed` or `running`."""
    done = control.cancel(tasks.queues, run_id, who.asker)
    return Outcome(done, run_id, after={"was": "waiting" if done == "removed" else done})


@action("runs.retry", "operator", in_transaction=False)
def retry_run(who: Who, run_id: str) -> Outcome[str]:
    """Re-queue a run that has ended, under its own id."""
    control.retry(tasks.queues, run_id, who.asker)
    return Outcome(run_id, run_id)


@action("runs.again", "operator", in_transaction=False)
def run_again(
    who: Who, run_id: str, args: list[Any] | None = None, arguments: dict[str, Any] | None = None
) -> Outcome[Result]:
    """Enqueue a new run of the same task, whose parent is the old one; gives back its handle.

    With the arguments of the old one, unless others are given.
    """
    if args is None and arguments is None and (old := Run.get_or_none(Run.id == run_id)):
        args, arguments = old.args, old.kwargs
    result = control.run_again(tasks.queues, run_id, args or [], arguments or {}, by=who.asker)
    return Outcome(result, result.id, after={"parent": run_id, "args": args or [], "arguments": arguments or {}})


@action("runs.delete", "admin", danger=True)
def delete_run(who: Who, run_id: str) -> Outcome[str]:
    """Remove a run that has ended from the history, with its attempts and its log."""
    control.delete(tasks.queues, run_id)
    return Outcome(run_id, run_id)


@action("workers.quiet", "admin", in_transaction=False)
def quiet_worker(who: Who, worker: str) -> Outcome[str]:
    """Have a consumer finish what it runs and take nothing new."""
    return order(who, worker, What.QUIET)


@action("workers.wake", "admin", in_transaction=False)
def wake_worker(who: Who, worker: str) -> Outcome[str]:
    """Have a quiet consumer take runs again."""
    return order(who, worker, What.WAKE)


@action("workers.stop", "admin", danger=True, in_transaction=False)
def stop_worker(who: Who, worker: str) -> Outcome[str]:
    """Have a consumer end, once what it runs has ended or its time is up; nobody starts it again."""
    return order(who, worker, What.STOP)


@action("workers.restart", "admin", danger=True, in_transaction=False)
def restart_worker(who: Who, worker: str) -> Outcome[str]:
    """Have a consumer start anew, with the code that is there now."""
    return order(who, worker, What.RESTART)


@action("workers.dump", "admin", in_transaction=False)
def dump_worker(who: Who, worker: str) -> Outcome[str]:
    """Have a consumer tell where the code of its workers is right now."""
    return order(who, worker, What.DUMP)


@action("dead.requeue", "operator", in_transaction=False)
def requeue_dead(who: Who, run_id: str) -> Outcome[str]:
    """Give a dead run another chance, with its own message."""
    control.requeue(tasks.queues, run_id)
    return Outcome(run_id, run_id)


@action("dead.discard", "admin", danger=True, in_transaction=False)
def discard_dead(who: Who, run_id: str) -> Outcome[str]:
    """Give up the message of a dead run for good."""
    control.discard(tasks.queues, run_id, who.asker)
    return Outcome(run_id, run_id)


@action("alerts.test", "operator", in_transaction=False)
def test_alerts(who: Who) -> Outcome:
    """Send a test by webhook and mail; gives back what came of each."""
    tried = delivery.try_channels()
    if not tried:
        raise Refused(_("Nobody is told of alerts: neither ALERT_WEBHOOK_URL nor ALERT_EMAIL_TO is set."))
    return Outcome(tried, after={one.channel: one.error or "sent" for one in tried})


def order(who: Who, worker: str, what: What) -> Outcome:
    """`worker` is a consumer's id, or its name as `flask workers list` shows it."""
    consumer = roster.order(tasks.queues, worker, what, who.asker)
    return Outcome(consumer.id, consumer.id)


def queue_named(name: str) -> Queue:
    if name not in tasks.queues:
        raise BadInput(
            "queue", _("one of %(allowed)s is needed, not %(given)s", allowed=", ".join(tasks.queues), given=repr(name))
        )
    return tasks.queues[name]


def scheduled(name: str) -> tuple[Queue, str]:
    """The queue and the bare name of a task that the clock starts. Raises UnknownTask and BadInput."""
    queue, task = control.find(tasks.queues, name)
    if task.schedule is None:
        raise BadInput("task", _("%(task)s has no schedule", task=task.__name__))
    return queue, task.__name__
