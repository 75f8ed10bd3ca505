"""Runs that meet a filter, newest first, page by page.

Where rows must be looked at, a page ends after so many of them, says how far it has come, and the next one goes on from
there.

Bounds are compared as rows, `(task, state, enqueued_at, id) < (…)`, and the order names every column of the index.
That leaves PostgreSQL no other plan: with plain equality it may walk through all runs in search of some that it takes
to be frequent.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import reduce
from operator import add, and_
from types import SimpleNamespace
from typing import Any, NamedTuple

from peewee import SQL, Case, Field, ModelSelect, Select, Tuple, Value, fn

from engine.database import database
from engine.models import Run, State
from engine.search.filters import Look
from engine.search.pagination import COUNTED_TO, place
from engine.search.query_plan import FIELDS, Arm, Lookup, Plan, plan, sets, windows

#: So many rows are looked at for one page, where rows must be looked at: the newest ones lie side by side, and those of
#: one state or task are scattered, which costs four times as much.
LOOKED_AT, SCATTERED = 24_000, 6_000

#: … and of those whose ids begin alike.
MOST_SHORT = 10_000


class Found(NamedTuple):
    """A page of runs. `older` is where the next one begins; `searched_to` is set where this one ended for having looked
    at enough rows.
    """

    rows: list[Run]
    older: str | None
    searched_to: datetime | None = None


class Place(NamedTuple):
    at: datetime
    id: str


# --- pages ---------------------------------------------------------------------------------------------------


def find(wanted: Lookup, size: int, before: str = "") -> Found:
    """The `size` newest runs after the place `before`, which is the `older` of the page before. Raises BadPage."""
    start = Place(*place(before, str)) if before else None
    planned = plan(wanted)
    each = LOOKED_AT if planned.arms == [Arm(())] else SCATTERED // max(planned.share, 1)
    floor = floor_of(wanted, planned, start, each) if planned.looks else None
    places = places_of(wanted, planned, start, floor, each, size + 1)
    rows = rows_of(places[:size])
    if len(places) > size:
        return Found(rows, mark(places[size - 1]))
    return Found(rows, mark(floor), floor.at) if floor else Found(rows, None)


def find_all(wanted: Lookup, size: int) -> Iterator[list[Run]]:
    """Every one of them, a page at a time."""
    before: str | None = ""
    while before is not None:
        found = find(wanted, size, before)
        yield found.rows
        before = found.older


def mark(place: Place) -> str:
    return f"{place.at.isoformat()}_{place.id}"


def floor_of(wanted: Lookup, planned: Plan, start: Place | None, each: int) -> Place | None:
    """The last place of the stretch in which this page looks; None when that reaches to the end."""
    arms = [stretch(wanted, arm, start, None).offset(each - 1).limit(1) for arm in planned.arms if not arm.short]
    return next(iter(merged(arms, 1)), None)


def places_of(
    wanted: Lookup, planned: Plan, start: Place | None, floor: Place | None, each: int, size: int
) -> list[Place]:
    """The first `size` places, newest first."""
    if not planned.looks and not any(arm.short for arm in planned.arms):
        return merged([stretch(wanted, arm, start, None).limit(size) for arm in planned.arms], size)
    fields = {field for look in planned.looks for field in look.fields}
    arms = []
    for arm in planned.arms:
        # The limit keeps the database from drawing the conditions into the stretch, and the stretch out of its order.
        inner = (
            stretch(wanted, arm, start, floor, *fields).limit(MOST_SHORT if arm.short else each + 1).alias("looked_at")
        )
        conditions = [look.condition(inner.c) for look in planned.looks]
        if arm.short and start:
            conditions.append(Tuple(inner.c.at, inner.c.id) < instant_and_id(wanted.at, start))
        found = Select([inner], [inner.c.at, inner.c.id])
        found = found.where(*conditions) if conditions else found
        arms.append(found.order_by(inner.c.at.desc(), inner.c.id.desc()).limit(size))
    return merged(arms, size)


def merged(arms: list[Any], size: int) -> list[Place]:
    if not arms:
        return []
    query = arms[0] if len(arms) == 1 else reduce(add, arms).order_by(SQL('"at" DESC, "id" DESC')).limit(size)
    return [Place(Run.enqueued_at.python_value(at), run_id) for at, run_id in database.execute(query)]


def rows_of(places: list[Place]) -> list[Run]:
    if not places:
        return []
    rows = {run.id: run for run in Run.select().where(Run.id.in_([place.id for place in places]))}
    return [rows[place.id] for place in places if place.id in rows]


def stretch(wanted: Lookup, arm: Arm, start: Place | None, floor: Place | None, *fields: Field) -> Any:
    """The arm's rows between two places, newest first: `at`, `id` and these fields."""
    columns = {field.name: field for field in (Run.id, *fields)}.values()
    query = Run.select(wanted.at.alias("at"), *columns)
    query = query.where(SQL(arm.guard)) if arm.guard else query
    prefix, values = [field for field, _ in arm.prefix], [value for _, value in arm.prefix]
    if arm.short:
        return query.where(begins(values[0])).order_by(Run.id)
    index = [*prefix, wanted.at, Run.id]
    since, until = wanted.ended or wanted.asked
    low: tuple[Any, ...] = (since,) * bool(since)
    high: tuple[Any, ...] = (until,) * bool(until)
    if floor:
        low = tuple(floor)
    if start and not (until and until < start.at):
        high = tuple(start)
    if prefix or low:
        fields_low, low_row = as_row(index, [*values, *low])
        query = query.where(fields_low >= low_row)
    if prefix or high:
        fields_high, high_row = as_row(index, [*values, *high])
        query = query.where(fields_high < high_row if high else fields_high <= high_row)
    return query.order_by(*(field.desc() for field in index))


def begins(prefix: str) -> Any:
    """The condition for "the id begins so". The range is for the index; in some languages it holds more than that."""
    return (Run.id >= prefix) & (Run.id <= prefix + "z" * 40) & (fn.SUBSTR(Run.id, 1, len(prefix)) == prefix)


def as_row(fields: list[Field], values: list[Any]) -> tuple[Any, Any]:
    """The first of the fields, and their values, each as one."""
    if len(values) == 1:
        return fields[0], fields[0].to_value(values[0])
    named = list(zip(fields, values, strict=False))
    return Tuple(*(field for field, _ in named)), Tuple(*(field.to_value(value) for field, value in named))


def instant_and_id(at: Field, place: Place) -> Any:
    return Tuple(at.to_value(place.at), place.id)


# --- how many ------------------------------------------------------------------------------------------------


def count_by_state(wanted: Lookup) -> dict[str, int] | None:
    """How many in each state, whichever states are asked for; `COUNTED_TO` + 1 stands for more than that.

    None where no index can tell. One statement.
    """
    plans = {str(state): plan(replace(wanted, states=frozenset({state}))) for state in State}
    if not all(told_by_index(one) for one in plans.values()):
        return None
    arms = [counted(wanted, state, arm, one.looks) for state, one in plans.items() for arm in one.arms]
    found = dict.fromkeys(plans, 0)
    for state, entries, count in database.execute(reduce(add, arms)) if arms else ():
        if entries > COUNTED_TO and count < entries:
            return None
        found[state] = min(found[state] + count, COUNTED_TO + 1)
    return found


def told_by_index(planned: Plan) -> bool:
    """Whether its looks need no row: the index of task and state has the queue too."""
    prefixes = [[field.name for field, _ in arm.prefix] for arm in planned.arms]
    looked_at = {field.name for look in planned.looks for field in look.fields}
    return not looked_at or (looked_at == {"queue"} and all(names == ["task", "state"] for names in prefixes))


def counted(wanted: Lookup, state: str, arm: Arm, looks: list[Look]) -> Any:
    """A row: the state, how many entries of the index were read, and how many of these count."""
    entries = stretch(wanted, arm, None, None, *(Run.queue for look in looks)).limit(COUNTED_TO + 1).alias("entries")
    if not looks:
        return Select([entries], [Value(state), fn.COUNT(SQL("*")), fn.COUNT(SQL("*"))])
    holds = reduce(and_, [look.condition(entries.c) for look in looks])
    return Select([entries], [Value(state), fn.COUNT(SQL("*")), fn.COUNT(Case(None, [(holds, 1)]))])


def everything(wanted: Lookup) -> "ModelSelect[Run]":
    """All of them, in no order, however many rows must be looked at: id, state and when they were asked for."""
    conditions = [look.condition(Run) for look in [*sets(wanted, *FIELDS), *windows(wanted, "ended"), *wanted.looks]]
    # Beside an end it tells little, and SQLite would read its index for it.
    asked = SimpleNamespace(enqueued_at=fn.COALESCE(Run.enqueued_at, None)) if wanted.ended else Run
    conditions += [look.condition(asked) for look in windows(wanted, "asked")]
    if wanted.id_prefix:
        conditions.append(begins(wanted.id_prefix))
    runs = Run.select(Run.id, Run.state, Run.enqueued_at)
    return runs.where(*conditions) if conditions else runs
