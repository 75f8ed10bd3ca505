"""The table of actions. `execute` checks the role, runs the action and writes the audit entry."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from flask_babel import gettext as _

from admin import audit_log
from admin.auth.access import deny
from admin.auth.identity import Actor
from admin.operations.arguments import PARSERS
from admin.problems import InvalidInput, error_text, to_http_error
from engine.control.arguments import unknown_parameter
from engine.database import database
from engine.exceptions import BrokerUnavailable, NoLiveWorker, Paused

Value = TypeVar("Value")


class ActionResult(NamedTuple, Generic[Value]):
    """The value for the caller, and the facts for the audit log."""

    value: Value = None  # type: ignore[assignment]  # omitted only from an ActionResult[None]
    target: str | None = None
    before: object = None
    after: object = None


@dataclass(frozen=True)
class Action:
    name: str  # noun.verb
    role: str
    danger: bool  # needs a confirmation
    creates: bool  # no parameter names an existing subject
    in_transaction: bool
    function: Callable[..., ActionResult[object]]
    can_start: Callable[..., None] | None = None  # raises Paused or NoLiveWorker if the run would only wait

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters without the actor."""
        return list(inspect.signature(self.function).parameters.values())[1:]

    @property
    def noun(self) -> str:
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """The verb in addresses and in the terminal."""
        return self.name.partition(".")[2].replace("_", "-")

    @property
    def subject(self) -> inspect.Parameter | None:
        """The parameter that names the subject: the first required one that is not a secret."""
        first = next(iter(self.parameters), None)
        names_target = first is not None and first.default is first.empty and first.annotation in (str, int, UUID)
        return first if names_target and not self.creates else None

    def read(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments in their types. Raises InvalidInput."""
        parameters = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in parameters:
                names = [parameter for parameter in parameters if not self.subject or parameter != self.subject.name]
                raise to_http_error(unknown_parameter(name, self.name, names))
        for name, parameter in parameters.items():
            if name not in values and parameter.default is parameter.empty:
                raise InvalidInput(name, _("must be given"))
        return {name: PARSERS[parameters[name].annotation](name, value) for name, value in values.items()}


Handler = TypeVar("Handler", bound=Callable[..., ActionResult[Any]])
ACTIONS: dict[str, Action] = {}


def register_action(
    name: str,
    role: str,
    *,
    danger: bool = False,
    creates: bool = False,
    in_transaction: bool = True,
    can_start: Callable[..., None] | None = None,
) -> Callable[[Handler], Handler]:
    def declare(function: Handler) -> Handler:
        ACTIONS[name] = Action(name, role, danger, creates, in_transaction, function, can_start)
        return function

    return declare


def execute(actor: Actor, name: str, /, **arguments: Any) -> Any:
    """Run an action as `actor`. Raises ForbiddenError, InvalidInput, ConflictError and what the engine raises.

    The audit entry is written in the action's transaction if it has one. An action on the broker has none, so the
    database must accept a write first. If the database then becomes unavailable, the entry is missing.
    """
    return run_action(actor, ACTIONS[name], arguments)


def execute_if_ready(actor: Actor, name: str, /, **arguments: Any) -> Any:
    """Like `execute`, but raise Paused or NoLiveWorker if the run would only wait."""
    return run_action(actor, ACTIONS[name], arguments, at_once=True)


def run_action(actor: Actor, action: Action, values: Mapping[str, object], at_once: bool = False) -> object:
    if not actor.may(action.role):
        raise deny(actor, action.role, action.name, action.name)
    arguments = action.read(values)
    if at_once and action.can_start:
        action.can_start(**arguments)
    if not action.in_transaction:
        audit_log.check_writable()
    with database.atomic() if action.in_transaction else nullcontext():
        outcome = action.function(actor, **arguments)
        audit_log.write_entry(actor, action.name, target=outcome.target, before=outcome.before, after=outcome.after)
    return outcome.value


def blocking_reason(name: str, /, **arguments: object) -> str | None:
    """Return why an action could not start now, None if it could."""
    action = ACTIONS[name]
    try:
        if action.can_start:
            action.can_start(**action.read(arguments))
    except (Paused, NoLiveWorker, BrokerUnavailable) as error:
        return error_text(error)
    return None
