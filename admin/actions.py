"""Every command that a person may give, in one table: may they → do it → one line in the audit."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, NewType
from uuid import UUID

import tasks
from admin.access import create_operator, create_token
from admin.problems import BadInput, NotAllowed, Refused
from admin.who import Who
from engine import control
from engine.control import run_task
from engine.database import database
from engine.queues import Queue
from engine.records import now
from models import AuditEntry, ReadingSession
from reading import sample
from reading.sessions import close_one

#: A parameter that is never shown, stored or logged.
Secret = NewType("Secret", str)

SECRET_NAMES = re.compile(r"passw|secret|token|authorization|api_?key|credential", re.IGNORECASE)


class Outcome(NamedTuple):
    """What an action gives back to its caller, and what the audit keeps of it."""

    value: Any = None
    target: str | None = None
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Action:
    name: str  # noun.verb
    role: str
    danger: bool  # asked about once more before it is done
    in_transaction: bool
    function: Callable[..., Outcome]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """What the caller gives, beside who they are."""
        return list(inspect.signature(self.function).parameters.values())[1:]

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in their types. Raises BadInput."""
        parameters = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in parameters:
                raise BadInput(name, f"{self.name} has no such parameter")
        for name, parameter in parameters.items():
            if name not in given and parameter.default is parameter.empty:
                raise BadInput(name, "a value is needed")
        return {name: READERS[parameters[name].annotation](name, value) for name, value in given.items()}


Deed = Callable[..., Outcome]
ACTIONS: dict[str, Action] = {}


def action(name: str, role: str, *, danger: bool = False, in_transaction: bool = True) -> Callable[[Deed], Deed]:
    def declare(function: Deed) -> Deed:
        ACTIONS[name] = Action(name, role, danger, in_transaction, function)
        return function

    return declare


def perform(who: Who, name: str, /, **given: Any) -> Any:
    """Do it in the name of `who`. Raises NotAllowed, BadInput, Refused and what the engine raises.

    The audit line is written in the deed's own transaction where it has one. A broker has none: when the database goes
    away at that very moment, a run is enqueued without its line, and tells only by itself who asked for it.
    """
    action = ACTIONS[name]
    if not who.may(action.role):
        raise NotAllowed(f"The role {action.role} is needed; yours is {who.role}.")
    arguments = action.read(given)
    with database.atomic() if action.in_transaction else nullcontext():
        outcome = action.function(who, **arguments)
        write_audit(who, name, outcome)
    return outcome.value


def write_audit(who: Who, name: str, outcome: Outcome | None = None) -> None:
    outcome = outcome or Outcome()
    AuditEntry.create(
        actor_kind=who.kind,
        actor=who.name,
        source=who.source,
        action=name,
        target=outcome.target,
        before=redacted(outcome.before),
        after=redacted(outcome.after),
        address=who.address,
    )


def redacted(value: Any) -> Any:
    """The value without what is under a name that speaks of secrets, however deep."""
    if isinstance(value, Mapping):
        return {key: "***" if SECRET_NAMES.search(str(key)) else redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value


# --- parameters ----------------------------------------------------------------------------------------------


def read_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadInput(name, "text is needed")
    return value


def read_optional_text(name: str, value: Any) -> str | None:
    return None if value is None else read_text(name, value)


def read_secret(name: str, value: Any) -> str | None:
    return None if value is None else read_text(name, value)


def read_whole(name: str, value: Any) -> int | None:
    if value is None or type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise BadInput(name, "a whole number is needed")


def read_uuid(name: str, value: Any) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(read_text(name, value))
    except ValueError as error:
        raise BadInput(name, "an id such as 8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52 is needed") from error


def read_arguments(name: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadInput(name, "an object of names and values is needed")
    return value


READERS: dict[Any, Callable[[str, Any], Any]] = {
    str: read_text,
    str | None: read_optional_text,
    Secret | None: read_secret,
    int | None: read_whole,
    UUID: read_uuid,
    dict[str, Any] | None: read_arguments,
}


# --- the table -----------------------------------------------------------------------------------------------


@action("sessions.close", "operator")
def close_session(who: Who, session_id: UUID) -> Outcome:
    """Close one open reading session, whatever its age."""
    if not close_one(session_id, now()):
        known = ReadingSession.get_or_none(ReadingSession.id == session_id)
        raise Refused("This session is not open any more." if known else "There is no such session.")
    return Outcome(target=str(session_id))


@action("tasks.run", "operator", in_transaction=False)
def run(who: Who, name: str, arguments: dict[str, Any] | None = None) -> Outcome:
    """Enqueue one run of a task; gives back its handle."""
    result = run_task(tasks.queues, name, kwargs=arguments, by=who.asker)
    return Outcome(result, result.id, after={"task": name, "arguments": arguments or {}})


@action("operators.create", "admin")
def add_operator(who: Who, email: str, role: str, password: Secret | None = None) -> Outcome:
    """Let a person sign in; gives back the password, a new one unless one is given."""
    return Outcome(create_operator(email, role, password), email, after={"role": role})


@action("tokens.create", "admin")
def add_token(who: Who, name: str, role: str, days: int | None = None) -> Outcome:
    """Make a token for programs; gives it back, for the only time."""
    return Outcome(create_token(name, role, days), name, after={"role": role, "days": days})


@action("library.demo", "admin")
def load_sample_library(who: Who) -> Outcome:
    """Load the sample library into a database of our own; gives back how many rows of what."""
    try:
        counts = sample.load(now())
    except (sample.NotOwnLibrary, sample.AlreadyLoaded) as error:
        raise Refused(str(error)) from error
    return Outcome(counts, after=counts)


@action("queues.pause", "operator", in_transaction=False)
def pause_queue(who: Who, queue: str, reason: str | None = None) -> Outcome:
    """Hand out nothing more of this queue until it is resumed; what runs goes on."""
    control.pause(queue_named(queue), by=who.asker, reason=reason)
    return Outcome(target=queue, after={"reason": reason})


@action("queues.resume", "operator", in_transaction=False)
def resume_queue(who: Who, queue: str) -> Outcome:
    """Hand out the queue's runs again; gives back whether it was paused."""
    return Outcome(control.resume(queue_named(queue)), queue)


@action("queues.purge", "admin", danger=True, in_transaction=False)
def purge_queue(who: Who, queue: str) -> Outcome:
    """Cancel everything that waits in the queue; gives back how many runs that were."""
    purged = control.purge(queue_named(queue), who.asker)
    return Outcome(purged, queue, after={"cancelled": purged})


@action("runs.cancel", "operator", in_transaction=False)
def cancel_run(who: Who, run_id: str) -> Outcome:
    """Take a waiting run out of its queue, or interrupt a running one; gives back `removed` or `running`."""
    done = control.cancel(tasks.queues, run_id, who.asker)
    return Outcome(done, run_id, after={"was": "waiting" if done == "removed" else done})


@action("runs.retry", "operator", in_transaction=False)
def retry_run(who: Who, run_id: str) -> Outcome:
    """Re-queue a run that has ended, under its own id."""
    control.retry(tasks.queues, run_id, who.asker)
    return Outcome(run_id, run_id)


@action("dead.requeue", "operator", in_transaction=False)
def requeue_dead(who: Who, run_id: str) -> Outcome:
    """Give a dead run another chance, with its own message."""
    control.requeue(tasks.queues, run_id)
    return Outcome(run_id, run_id)


@action("dead.discard", "admin", danger=True, in_transaction=False)
def discard_dead(who: Who, run_id: str) -> Outcome:
    """Give up the message of a dead run for good."""
    control.discard(tasks.queues, run_id)
    return Outcome(run_id, run_id)


def queue_named(name: str) -> Queue:
    if name not in tasks.queues:
        raise BadInput("queue", f"one of {', '.join(tasks.queues)} is needed, not {name!r}")
    return tasks.queues[name]
