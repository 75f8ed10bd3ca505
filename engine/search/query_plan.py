"""Which runs somebody wants to see, and how the database is to find them at a cost that no history makes larger.

What an index knows (state, task, queue, who asked, time) is answered from it, by *arms*: an arm is one stretch of one
index that is in the wanted order already, such as all that failed, newest first; several are merged. What must be
looked at in each row (a word, a duration, a worker) is a *look*, and `engine.search.run_search` looks at so many rows
a page.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import NamedTuple

from peewee import Field

from engine.models import ENDED, Run, State
from engine.search.filters import RowFilter

#: More arms than this are not merged; the states are then looked at in each row.
MAX_SCANS = 40

#: Whose names are in an index: people and programs, not the code that enqueues by the million.
PEOPLE = ("operator", "token", "cli")
ASKED_BY_PEOPLE = "asked_by_kind IN ('operator', 'token', 'cli')"
HAS_ENDED = "ended_at IS NOT NULL"
HAS_PARENT = "parent_id IS NOT NULL"
HAS_ERROR_GROUP = "error_group IS NOT NULL"


class TimeRange(NamedTuple):
    """From an instant on, and before another; None is open."""

    since: datetime | None = None
    until: datetime | None = None


ANY_TIME = TimeRange()


@dataclass(frozen=True)
class RunQuery:
    """Which runs. None stands for any; an empty set for none at all."""

    states: frozenset[str] | None = None
    tasks: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    people: frozenset[str] | None = None  # who asked: operators, tokens, command line
    id_prefix: str = ""
    parents: frozenset[str] | None = None
    errors: frozenset[str] | None = None  # groups of errors
    enqueued: TimeRange = ANY_TIME
    ended: TimeRange | None = None  # the order is then that of the end
    row_filters: tuple[RowFilter, ...] = ()

    @property
    def at(self) -> Field:
        """The instant that the list is ordered by."""
        return Run.ended_at if self.ended else Run.enqueued_at


# --- which index ---------------------------------------------------------------------------------------------


class IndexScan(NamedTuple):
    """One stretch of one index: the columns that it begins with and their values; `at` and the id follow.

    `guard`: the condition of a partial index. A `short` one is few rows, in no order: so few that
    all of them are looked at.
    """

    prefix: tuple[tuple[Field, str], ...]
    guard: str = ""
    short: bool = False


class QueryPlan(NamedTuple):
    """`share`: of how many that may be equally long each arm is one."""

    scans: list[IndexScan]
    row_filters: list[RowFilter]
    share: int = 1


#: Sets of a Lookup → their columns, and its windows → theirs.
FIELDS: dict[str, Field] = {
    "states": Run.state,
    "tasks": Run.task,
    "queues": Run.queue,
    "people": Run.asked_by,
    "parents": Run.parent_id,
    "errors": Run.error_group,
}
TIMES: dict[str, Field] = {"enqueued": Run.enqueued_at, "ended": Run.ended_at}


class Access(NamedTuple):
    """A way to find runs.

    `suits`: the condition on the query. `leading`: the sets of the query whose columns its index begins with; there is
    one arm for each combination of their values. `window`: the one that the order of the index answers. Whatever the
    query demands beside `leading` and `window` must be looked at in each row.
    """

    suits: Callable[[RunQuery], bool]
    leading: tuple[str, ...]
    guard: str = ""
    window: str = "enqueued"

    def scans(self, query: RunQuery) -> list[IndexScan]:
        fields = [FIELDS[name] for name in self.leading]
        combinations = product(*(self.values(query, name) for name in self.leading))
        return [IndexScan(tuple(zip(fields, values, strict=True)), self.guard) for values in combinations]

    def values(self, query: RunQuery, name: str) -> Iterable[str]:
        if name == "states":
            return wanted_states(query).intersection(ENDED) if self.guard == HAS_ENDED else wanted_states(query)
        values: frozenset[str] = getattr(query, name)
        return values

    def share(self, query: RunQuery) -> int:
        """States are not equally frequent: one of them may hold nearly all runs."""
        return len(getattr(query, self.leading[0])) if self.leading and self.leading[0] != "states" else 1

    def row_filters(self, query: RunQuery) -> list[RowFilter]:
        demanded = [name for name in FIELDS if name not in self.leading]
        return [
            *set_filters(query, *demanded),
            *time_filters(query, *(TIMES.keys() - {self.window})),
            *query.row_filters,
        ]


def wanted_states(query: RunQuery) -> frozenset[str]:
    return frozenset(State) if query.states is None else query.states


def are_few(names: frozenset[str] | None, states: frozenset[str]) -> bool:
    return names is not None and len(names) * len(states) <= MAX_SCANS


#: The first that suits is taken. Parents come first, as a run has few children. A query for ends is in the order of the
#: end, which one index alone has. Of the others those come first that name fewer runs: a group of errors, a person, a
#: task, a queue. An index on a queue begins with queue and state, so without states it is read once a state, which is
#: worth it only where no row must be looked at.
ACCESSES = (
    Access(lambda query: query.parents is not None and query.ended is None, ("parents",), HAS_PARENT),
    Access(lambda query: query.ended is not None, ("states",), HAS_ENDED, window="ended"),
    Access(lambda query: query.errors is not None, ("errors",), HAS_ERROR_GROUP),
    Access(lambda query: query.people is not None, ("people",), ASKED_BY_PEOPLE),
    Access(lambda query: query.states is not None and are_few(query.tasks, query.states), ("tasks", "states")),
    Access(lambda query: query.tasks is not None, ("tasks",)),
    Access(
        lambda query: are_few(query.queues, wanted_states(query)) and not (query.states is None and query.row_filters),
        ("queues", "states"),
    ),
    Access(
        lambda query: query.queues is not None and not (query.states is None and query.row_filters),
        ("queues",),
    ),
    Access(lambda query: query.states is not None, ("states",)),
    Access(lambda query: True, ()),
)


def plan_query(query: RunQuery) -> QueryPlan:
    if query.id_prefix:  # names fewer runs than all else
        looks = [*set_filters(query, *FIELDS), *time_filters(query, *TIMES), *query.row_filters]
        return QueryPlan([IndexScan(((Run.id, query.id_prefix),), short=True)], looks)
    access = next(access for access in ACCESSES if access.suits(query))
    return QueryPlan(access.scans(query), access.row_filters(query), access.share(query))


# --- what is looked at ---------------------------------------------------------------------------------------


def set_filters(query: RunQuery, *names: str) -> list[RowFilter]:
    """Return the sets of these names as looks."""
    demanded = {name: getattr(query, name) for name in names}
    looks = [set_filter(FIELDS[name], values) for name, values in demanded.items() if values is not None]
    return [*looks, set_filter(Run.asked_by_kind, frozenset(PEOPLE))] if demanded.get("people") else looks


def set_filter(field: Field, values: frozenset[str]) -> RowFilter:
    return RowFilter((field,), lambda columns: getattr(columns, field.name).in_(sorted(values)))


def time_filters(query: RunQuery, *names: str) -> list[RowFilter]:
    """Return the windows of these names as looks."""
    looks = []
    for name in names:
        since, until = getattr(query, name) or ANY_TIME
        looks += [bound_filter(TIMES[name], "__ge__", since)] if since else []
        looks += [bound_filter(TIMES[name], "__lt__", until)] if until else []
    return looks


def bound_filter(field: Field, compare: str, at: datetime) -> RowFilter:
    return RowFilter((field,), lambda columns: getattr(getattr(columns, field.name), compare)(field.to_value(at)))
