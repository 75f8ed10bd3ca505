"""Which runs somebody wants to see, and how the database is to find them at a cost that no history makes larger.

What an index knows (state, task, queue, who asked, time) is answered from it, by *arms*: an arm is one stretch of one
index that is in the wanted order already, such as all that failed, newest first; several are merged. What must be
looked at in each row (a word, a duration, a worker) is a *look*, and `engine.search.run_search` looks at so many rows
a page.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import NamedTuple

from peewee import Field

from engine.models import ENDED, Run, State
from engine.search.filters import Look

#: More arms than this are not merged; the states are then looked at in each row.
MOST_ARMS = 40

#: Whose names are in an index: people and programs, not the code that enqueues by the million.
PEOPLE = ("operator", "token", "cli")
ASKED_BY_PEOPLE = "asked_by_kind IN ('operator', 'token', 'cli')"
HAS_ENDED = "ended_at IS NOT NULL"
HAS_PARENT = "parent_id IS NOT NULL"
HAS_ERROR_GROUP = "error_group IS NOT NULL"


class Window(NamedTuple):
    """From an instant on, and before another; None is open."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Window()


@dataclass(frozen=True)
class Lookup:
    """Which runs. None stands for any; an empty set for none at all."""

    states: frozenset[str] | None = None
    tasks: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    people: frozenset[str] | None = None  # who asked: operators, tokens, command line
    id_prefix: str = ""
    parents: frozenset[str] | None = None
    errors: frozenset[str] | None = None  # groups of errors
    asked: Window = ALWAYS
    ended: Window | None = None  # the order is then that of the end
    looks: tuple[Look, ...] = ()

    @property
    def at(self) -> Field:
        """The instant that the list is ordered by."""
        return Run.ended_at if self.ended else Run.enqueued_at


# --- which index ---------------------------------------------------------------------------------------------


class Arm(NamedTuple):
    """One stretch of one index: the columns that it begins with and their values; `at` and the id follow.

    `guard`: the condition of a partial index. A `short` one is few rows, in no order: so few that
    all of them are looked at.
    """

    prefix: tuple[tuple[Field, str], ...]
    guard: str = ""
    short: bool = False


class Plan(NamedTuple):
    """`share`: of how many that may be equally long each arm is one."""

    arms: list[Arm]
    looks: list[Look]
    share: int = 1


def plan(wanted: Lookup) -> Plan:
    looks = list(wanted.looks)
    if wanted.id_prefix:
        looks += [*sets(wanted, *FIELDS), *windows(wanted, "asked", "ended")]
        return Plan([Arm(((Run.id, wanted.id_prefix),), short=True)], looks)
    if wanted.parents is not None and not wanted.ended:
        looks += sets(wanted, "states", "tasks", "queues", "people", "errors")
        arms = [Arm(((Run.parent_id, run_id),), HAS_PARENT) for run_id in wanted.parents]
        return Plan(arms, looks, len(arms))
    if wanted.ended:
        states = ENDED if wanted.states is None else wanted.states.intersection(ENDED)
        arms = [Arm(((Run.state, state),), HAS_ENDED) for state in states]
        looks += [*sets(wanted, "tasks", "queues", "people", "parents", "errors"), *windows(wanted, "asked")]
        return Plan(arms, looks)
    if wanted.errors is not None:
        arms = [Arm(((Run.error_group, group),), HAS_ERROR_GROUP) for group in wanted.errors]
        return Plan(arms, [*sets(wanted, "states", "tasks", "queues", "people"), *looks], len(arms))
    if wanted.people is not None:
        arms = [Arm(((Run.asked_by, name),), ASKED_BY_PEOPLE) for name in wanted.people]
        return Plan(arms, [*sets(wanted, "states", "tasks", "queues"), *looks], len(arms))
    if wanted.tasks is not None:
        return by_name(wanted, Run.task, wanted.tasks, wanted.states, [*sets(wanted, "queues"), *looks])
    if wanted.queues is not None and (wanted.states is not None or not looks):
        return by_name(wanted, Run.queue, wanted.queues, every_state(wanted), looks)
    arms = [Arm(())] if wanted.states is None else [Arm(((Run.state, state),)) for state in wanted.states]
    return Plan(arms, [*sets(wanted, "queues"), *looks])


def every_state(wanted: Lookup) -> frozenset[str]:
    return frozenset(State) if wanted.states is None else wanted.states


def by_name(
    wanted: Lookup, field: Field, names: frozenset[str], states: frozenset[str] | None, looks: list[Look]
) -> Plan:
    if states is not None and len(names) * len(states) <= MOST_ARMS:
        arms = [Arm(((field, name), (Run.state, state))) for name, state in product(names, states)]
        return Plan(arms, looks, len(names))
    arms = [Arm(((field, name),)) for name in names]
    return Plan(arms, [*sets(wanted, "states"), *looks], len(names))


FIELDS: dict[str, Field] = {
    "states": Run.state,
    "tasks": Run.task,
    "queues": Run.queue,
    "people": Run.asked_by,
    "parents": Run.parent_id,
    "errors": Run.error_group,
}


def sets(wanted: Lookup, *names: str) -> list[Look]:
    """The same demands, to be looked at."""
    asked = {name: getattr(wanted, name) for name in names}
    found = [one_of(FIELDS[name], values) for name, values in asked.items() if values is not None]
    return [*found, one_of(Run.asked_by_kind, frozenset(PEOPLE))] if asked.get("people") else found


def one_of(field: Field, values: frozenset[str]) -> Look:
    return Look((field,), lambda columns: getattr(columns, field.name).in_(sorted(values)))


def windows(wanted: Lookup, *names: str) -> list[Look]:
    fields = {"asked": Run.enqueued_at, "ended": Run.ended_at}
    found = []
    for name in names:
        field, (since, until) = fields[name], getattr(wanted, name) or Window()
        found += [bound(field, "__ge__", since)] if since else []
        found += [bound(field, "__lt__", until)] if until else []
    return found


def bound(field: Field, compare: str, at: datetime) -> Look:
    return Look((field,), lambda columns: getattr(getattr(columns, field.name), compare)(field.to_value(at)))
