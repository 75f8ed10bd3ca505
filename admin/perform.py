"""The one door to every command: may they → do it → one line in the audit. `admin.actions` is the table of them."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, NewType, TypeVar
from uuid import UUID

from flask_babel import gettext as _

from admin import audit_chain
from admin.access import denied
from admin.problems import BadInput, as_http, in_words
from admin.who import Who
from engine.control import NoLiveWorker, Paused, unknown_parameter
from engine.database import database
from engine.queues import BrokerAway

#: A parameter that is never shown, stored or logged.
Secret = NewType("Secret", str)

Value = TypeVar("Value")


class Outcome(NamedTuple, Generic[Value]):
    """What an action gives back to its caller, and what the audit keeps of it."""

    value: Value = None  # type: ignore[assignment]
    target: str | None = None
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Action:
    name: str  # noun.verb
    role: str
    danger: bool  # asked about once more before it is done
    makes: bool  # something new: no parameter names what it is done to
    in_transaction: bool
    function: Callable[..., Outcome]
    can_start: Callable[..., None] | None = None  # raises where it could only wait: Paused, NoLiveWorker

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """What the caller gives, beside who they are."""
        return list(inspect.signature(self.function).parameters.values())[1:]

    @property
    def noun(self) -> str:
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """As addresses and the terminal have it."""
        return self.name.partition(".")[2].replace("_", "-")

    @property
    def subject(self) -> inspect.Parameter | None:
        """The parameter that names what it is done to: the first one that must be given. A secret names nothing."""
        first = next(iter(self.parameters), None)
        named = first is not None and first.default is first.empty and first.annotation in (str, int, UUID)
        return first if named and not self.makes else None

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in their types. Raises BadInput."""
        parameters = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in parameters:
                others = [one for one in parameters if not self.subject or one != self.subject.name]
                raise as_http(unknown_parameter(name, self.name, others))
        for name, parameter in parameters.items():
            if name not in given and parameter.default is parameter.empty:
                raise BadInput(name, _("a value is needed"))
        return {name: READERS[parameters[name].annotation](name, value) for name, value in given.items()}


Deed = Callable[..., Outcome]
ACTIONS: dict[str, Action] = {}


def action(
    name: str,
    role: str,
    *,
    danger: bool = False,
    makes: bool = False,
    in_transaction: bool = True,
    can_start: Callable[..., None] | None = None,
) -> Callable[[Deed], Deed]:
    def declare(function: Deed) -> Deed:
        ACTIONS[name] = Action(name, role, danger, makes, in_transaction, function, can_start)
        return function

    return declare


def perform(who: Who, name: str, /, **given: Any) -> Any:
    """Do it in the name of `who`. Raises NotAllowed, BadInput, Refused and what the engine raises.

    The audit entry is written in the action's own transaction where it has one. A broker has none: there the database
    must take a write first. When it goes away at that very moment, the action is done without its entry.
    """
    return carry_out(who, ACTIONS[name], given)


def perform_at_once(who: Who, name: str, /, **given: Any) -> Any:
    """As `perform`, for a caller that waits for the result: raises Paused or NoLiveWorker where it could only wait."""
    return carry_out(who, ACTIONS[name], given, at_once=True)


def carry_out(who: Who, action: Action, given: Mapping[str, Any], at_once: bool = False) -> Any:
    if not who.may(action.role):
        raise denied(who, action.role, action.name)
    arguments = action.read(given)
    if at_once and action.can_start:
        action.can_start(**arguments)
    if not action.in_transaction:
        audit_chain.check_writable()
    with database.atomic() if action.in_transaction else nullcontext():
        outcome = action.function(who, **arguments)
        audit_chain.write(who, action.name, target=outcome.target, before=outcome.before, after=outcome.after)
    return outcome.value


def hindrance(name: str, /, **given: Any) -> str | None:
    """Why an action could not start now, in words; None where it could."""
    action = ACTIONS[name]
    try:
        if action.can_start:
            action.can_start(**action.read(given))
    except (Paused, NoLiveWorker, BrokerAway) as error:
        return in_words(error)
    return None


# --- parameters ----------------------------------------------------------------------------------------------


#: Of numbers, either way: what every database and the broker can hold.
LARGEST = 999_999_999


def read_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadInput(name, _("text is needed"))
    if "\0" in value:
        raise BadInput(name, _("text without NUL is needed"))
    return value


def read_optional_text(name: str, value: Any) -> str | None:
    return None if value is None else read_text(name, value)


def read_secret(name: str, value: Any) -> Secret:
    return Secret(read_text(name, value))


def read_optional_secret(name: str, value: Any) -> Secret | None:
    return None if value is None else read_secret(name, value)


def read_whole(name: str, value: Any) -> int | None:
    if value is None or (type(value) is int and abs(value) <= LARGEST):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise BadInput(name, _("a whole number is needed"))


def read_number(name: str, value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and type(value) is not bool and abs(value) <= LARGEST):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,6})?", value):
        return float(value)
    raise BadInput(name, _("a number is needed"))


def read_instant(name: str, value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if at is None or (isinstance(at, datetime) and at.tzinfo):
            return at and at.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last hours there are, in some zones
        pass
    raise BadInput(name, _("an instant with its offset is needed, such as 2026-11-24T12:00:00+00:00"))


def read_needed_instant(name: str, value: Any) -> datetime:
    if (at := read_instant(name, value)) is None:
        raise BadInput(name, _("an instant is needed"))
    return at


def read_number_of_row(name: str, value: Any) -> int:
    if (number := read_whole(name, value)) is None:
        raise BadInput(name, _("a whole number is needed"))
    return number


def read_flag(name: str, value: Any) -> bool:
    if type(value) is bool:
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise BadInput(name, _("true or false is needed"))


def read_uuid(name: str, value: Any) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(read_text(name, value))
    except ValueError as error:
        raise BadInput(name, _("an id such as 8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52 is needed")) from error


def read_arguments(name: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadInput(name, _("an object of names and values is needed"))
    return value


def read_list(name: str, value: Any) -> list[Any] | None:
    if value is None or isinstance(value, list):
        return value
    raise BadInput(name, _("a list of values is needed"))


READERS: dict[Any, Callable[[str, Any], Any]] = {
    str: read_text,
    str | None: read_optional_text,
    Secret: read_secret,
    Secret | None: read_optional_secret,
    int: read_number_of_row,
    int | None: read_whole,
    bool: read_flag,
    float | None: read_number,
    datetime: read_needed_instant,
    datetime | None: read_instant,
    UUID: read_uuid,
    dict[str, Any] | None: read_arguments,
    list[Any] | None: read_list,
}
