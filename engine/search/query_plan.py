"""The query plan of a run search, with a cost that does not grow with the history.

Conditions on state, task, queue, requester and time are answered by *scans*. A scan is one range of one index that
already has the wanted order, for example all failed runs, newest first. Several scans are merged. Other conditions are
*row filters*: `engine.search.run_search` evaluates them on a limited number of rows per page.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import NamedTuple

from peewee import Field

from engine.models import ENDED, Run, State
from engine.search.filters import RowFilter

#: With more scans than this, states are filtered row by row instead.
MAX_SCANS = 40

#: Requesters with an index: users and programs, not code that enqueues millions of runs.
PEOPLE = ("operator", "token", "cli")
ASKED_BY_PEOPLE = "asked_by_kind IN ('operator', 'token', 'cli')"
HAS_ENDED = "ended_at IS NOT NULL"
HAS_PARENT = "parent_id IS NOT NULL"
HAS_ERROR_GROUP = "error_group IS NOT NULL"


class TimeRange(NamedTuple):
    """`since` <= time < `until`. None is open."""

    since: datetime | None = None
    until: datetime | None = None


ANY_TIME = TimeRange()


@dataclass(frozen=True)
class RunQuery:
    """The conditions of a search. None means any, an empty set means no run."""

    states: frozenset[str] | None = None
    tasks: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    people: frozenset[str] | None = None  # requesters: operators, tokens, command line
    id_prefix: str = ""
    parents: frozenset[str] | None = None
    errors: frozenset[str] | None = None  # error groups
    enqueued: TimeRange = ANY_TIME
    ended: TimeRange | None = None  # if set, the list is ordered by the end
    row_filters: tuple[RowFilter, ...] = ()

    @property
    def at(self) -> Field:
        return Run.ended_at if self.ended else Run.enqueued_at


# --- choice of the index -------------------------------------------------------------------------------------


class IndexScan(NamedTuple):
    """A range of one index: its leading columns with their values, followed by `at` and the id.

    `guard`: the condition of a partial index. A `short` scan has few rows in no order, and all are read.
    """

    prefix: tuple[tuple[Field, str], ...]
    guard: str = ""
    short: bool = False


class QueryPlan(NamedTuple):
    """`share`: the number of scans that may be equally long."""

    scans: list[IndexScan]
    row_filters: list[RowFilter]
    share: int = 1


#: Sets of a RunQuery → their columns, and its time ranges → theirs.
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

    `suits`: the condition on the query. `leading`: the sets whose columns begin the index. Each combination of their
    values is one scan. `window`: the time range that the index order answers. All other conditions become row filters.
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
        """Return the number of equally long scans. States are not equally frequent: one may hold nearly all runs."""
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


#: The first access that suits is taken. Parents come first, as a run has few children. A query by end time needs the
#: one index with that order. The others are ordered from few to many runs: error group, requester, task, queue.
#: An index on a queue begins with queue and state. Without given states it needs a scan per state, which only pays
#: without row filters.
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
    if query.id_prefix:  # it matches fewer runs than any other condition
        looks = [*set_filters(query, *FIELDS), *time_filters(query, *TIMES), *query.row_filters]
        return QueryPlan([IndexScan(((Run.id, query.id_prefix),), short=True)], looks)
    access = next(access for access in ACCESSES if access.suits(query))
    return QueryPlan(access.scans(query), access.row_filters(query), access.share(query))


# --- row filters ---------------------------------------------------------------------------------------------


def set_filters(query: RunQuery, *names: str) -> list[RowFilter]:
    demanded = {name: getattr(query, name) for name in names}
    looks = [set_filter(FIELDS[name], values) for name, values in demanded.items() if values is not None]
    return [*looks, set_filter(Run.asked_by_kind, frozenset(PEOPLE))] if demanded.get("people") else looks


def set_filter(field: Field, values: frozenset[str]) -> RowFilter:
    return RowFilter((field,), lambda columns: getattr(columns, field.name).in_(sorted(values)))


def time_filters(query: RunQuery, *names: str) -> list[RowFilter]:
    looks = []
    for name in names:
        since, until = getattr(query, name) or ANY_TIME
        looks += [bound_filter(TIMES[name], "__ge__", since)] if since else []
        looks += [bound_filter(TIMES[name], "__lt__", until)] if until else []
    return looks


def bound_filter(field: Field, compare: str, at: datetime) -> RowFilter:
    return RowFilter((field,), lambda columns: getattr(getattr(columns, field.name), compare)(field.to_value(at)))
