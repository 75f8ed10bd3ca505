"""Search of runs, newest first, page by page.

With row filters, a page ends after a limited number of rows, and the next page continues there.

Bounds are row comparisons, `(task, state, enqueued_at, id) < (…)`, and the order names every column of the index. So
PostgreSQL has one possible plan. With plain equality it may scan all runs for values that it estimates as frequent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import reduce
from operator import add, and_
from types import SimpleNamespace
from typing import NamedTuple

from peewee import SQL, Case, ColumnBase, Expression, Field, ModelSelect, Select, Tuple, Value, fn

from engine.database import database
from engine.models import Run, State
from engine.search.filters import RowFilter
from engine.search.pagination import COUNT_LIMIT, parse_cursor
from engine.search.query_plan import FIELDS, IndexScan, QueryPlan, RunQuery, plan_query, set_filters, time_filters

#: Rows scanned per page: 24,000 if they are contiguous, 6,000 if they belong to one state or task. Those are scattered,
#: which costs four times as much.
SCAN_LIMIT, SCATTERED_SCAN_LIMIT = 24_000, 6_000

#: The same for runs whose ids begin alike.
MAX_SHORT_SCAN = 10_000


#: Most index ranges whose counts one statement adds up.
MAX_COUNT_SCANS = 100


class RunPage(NamedTuple):
    """A page of runs. `older`: the cursor of the next page. `searched_to`: set if the page ended at the scan limit."""

    rows: list[Run]
    older: str | None
    searched_to: datetime | None = None


class PagePosition(NamedTuple):
    at: datetime
    id: str


# --- pages ---------------------------------------------------------------------------------------------------


def search_runs(query: RunQuery, size: int, before: str = "") -> RunPage:
    """Return the `size` newest runs after `before`, the `older` of the previous page. Raises InvalidCursor."""
    start = PagePosition(*parse_cursor(before, str)) if before else None
    planned = plan_query(query)
    depth = SCAN_LIMIT if planned.scans == [IndexScan(())] else SCATTERED_SCAN_LIMIT // max(planned.share, 1)
    floor = scan_floor(query, planned, start, depth) if planned.row_filters else None
    places = candidate_keys(query, planned, start, floor, depth, size + 1)
    rows = load_runs(places[:size])
    if len(places) > size:
        return RunPage(rows, cursor_for(places[size - 1]))
    return RunPage(rows, cursor_for(floor), floor.at) if floor else RunPage(rows, None)


def all_pages(query: RunQuery, size: int) -> Iterator[list[Run]]:
    before: str | None = ""
    while before is not None:
        page = search_runs(query, size, before)
        yield page.rows
        before = page.older


def cursor_for(place: PagePosition) -> str:
    return f"{place.at.isoformat()}_{place.id}"


def scan_floor(query: RunQuery, planned: QueryPlan, start: PagePosition | None, depth: int) -> PagePosition | None:
    """Return the last position that this page scans, `depth` rows down a scan. None if that reaches the end."""
    arms = [index_range(query, arm, start, None).offset(depth - 1).limit(1) for arm in planned.scans if not arm.short]
    return next(iter(merge(arms, 1)), None)


def candidate_keys(
    query: RunQuery, planned: QueryPlan, start: PagePosition | None, floor: PagePosition | None, depth: int, size: int
) -> list[PagePosition]:
    if not planned.row_filters and not any(arm.short for arm in planned.scans):
        return merge([index_range(query, arm, start, None).limit(size) for arm in planned.scans], size)
    limits = [MAX_SHORT_SCAN if arm.short else depth + 1 for arm in planned.scans]
    arms = [
        filtered_scan(query, planned.row_filters, arm, start, floor, limit).limit(size)
        for arm, limit in zip(planned.scans, limits, strict=True)
    ]
    return merge(arms, size)


def filtered_scan(
    query: RunQuery,
    looks: list[RowFilter],
    arm: IndexScan,
    start: PagePosition | None,
    floor: PagePosition | None,
    limit: int,
) -> Select:
    fields = {field for look in looks for field in look.fields}
    # The limit keeps the planner from merging the conditions into the range, which would lose its order.
    rows = index_range(query, arm, start, floor, *fields).limit(limit).alias("looked_at")
    conditions = [look.condition(rows.c) for look in looks]
    if arm.short and start:
        conditions.append(Tuple(rows.c.at, rows.c.id) < Tuple(query.at.to_value(start.at), start.id))
    places = Select([rows], [rows.c.at, rows.c.id])
    places = places.where(*conditions) if conditions else places
    return places.order_by(rows.c.at.desc(), rows.c.id.desc())


def merge(arms: Sequence[Select], size: int) -> list[PagePosition]:
    if not arms:
        return []
    query = arms[0] if len(arms) == 1 else reduce(add, arms).order_by(SQL('"at" DESC, "id" DESC')).limit(size)
    return [PagePosition(Run.enqueued_at.python_value(at), run_id) for at, run_id in database.execute(query)]


def load_runs(places: list[PagePosition]) -> list[Run]:
    if not places:
        return []
    rows = {run.id: run for run in Run.select().where(Run.id.in_([place.id for place in places]))}
    return [rows[place.id] for place in places if place.id in rows]


# --- a range of an index -------------------------------------------------------------------------------------


def index_range(
    query: RunQuery, arm: IndexScan, start: PagePosition | None, floor: PagePosition | None, *fields: Field
) -> "ModelSelect[Run]":
    columns = {field.name: field for field in (Run.id, *fields)}.values()
    rows = Run.select(query.at.alias("at"), *columns)
    rows = rows.where(SQL(arm.guard)) if arm.guard else rows
    values = [value for _, value in arm.prefix]
    if arm.short:
        return rows.where(id_prefix_filter(values[0])).order_by(Run.id)
    index = [*(field for field, _ in arm.prefix), query.at, Run.id]
    since, until = query.ended or query.enqueued
    bounds = [*low_bound(index, values, since, floor), *high_bound(index, values, until, start)]
    rows = rows.where(*bounds) if bounds else rows
    return rows.order_by(*(field.desc() for field in index))


def low_bound(
    index: list[Field], values: list[str], since: datetime | None, floor: PagePosition | None
) -> list[Expression]:
    """Return the lower bound: the floor, which is never before the time range, else the start of the range."""
    edge = tuple(floor) if floor else (since,) if since else ()
    if not values and not edge:
        return []
    columns, row = row_value(index, [*values, *edge])
    return [columns >= row]


def high_bound(
    index: list[Field], values: list[str], until: datetime | None, start: PagePosition | None
) -> list[Expression]:
    """Return the upper bound: the start of the page, or the end of the time range if that is earlier."""
    ends_first = until is not None and (start is None or until < start.at)
    edge = (until,) if ends_first else tuple(start) if start else ()
    if not values and not edge:
        return []
    columns, row = row_value(index, [*values, *edge])
    return [columns < row if edge else columns <= row]


def id_prefix_filter(prefix: str) -> Expression:
    """Return the condition "the id begins with". The range uses the index, but matches more rows in some collations."""
    return (Run.id >= prefix) & (Run.id <= prefix + "z" * 40) & (fn.SUBSTR(Run.id, 1, len(prefix)) == prefix)


def row_value(fields: list[Field], values: list[object]) -> tuple[ColumnBase, ColumnBase]:
    if len(values) == 1:
        return fields[0], fields[0].to_value(values[0])
    pairs = list(zip(fields, values, strict=False))
    return Tuple(*(field for field, _ in pairs)), Tuple(*(field.to_value(value) for field, value in pairs))


# --- counts --------------------------------------------------------------------------------------------------


def count_by_state(query: RunQuery) -> dict[str, int] | None:
    """Return the count per state, ignoring the states of the query. More than `COUNT_LIMIT` counts as `COUNT_LIMIT` +
    1.

    Returns None if no index can answer it, or only many ranges of one. One statement.
    """
    plans = {str(state): plan_query(replace(query, states=frozenset({state}))) for state in State}
    if not all(is_index_only(planned) for planned in plans.values()):
        return None
    arms = [
        count_query(query, state, arm, planned.row_filters) for state, planned in plans.items() for arm in planned.scans
    ]
    if len(arms) > MAX_COUNT_SCANS:
        return None
    counts = dict.fromkeys(plans, 0)
    for state, entries, count in database.execute(reduce(add, arms)) if arms else ():
        if entries > COUNT_LIMIT and count < entries:
            return None
        counts[state] = min(counts[state] + count, COUNT_LIMIT + 1)
    return counts


def is_index_only(planned: QueryPlan) -> bool:
    """True if the row filters need no row: the index of task and state contains the queue."""
    prefixes = [[field.name for field, _ in arm.prefix] for arm in planned.scans]
    fields = {field.name for look in planned.row_filters for field in look.fields}
    return not fields or (fields == {"queue"} and all(names == ["task", "state"] for names in prefixes))


def count_query(query: RunQuery, state: str, arm: IndexScan, looks: list[RowFilter]) -> Select:
    """Return a row of state, index entries read, and matching entries."""
    fields = [Run.queue] if looks else []
    entries = index_range(query, arm, None, None, *fields).limit(COUNT_LIMIT + 1).alias("entries")
    if not looks:
        return Select([entries], [Value(state), fn.COUNT(SQL("*")), fn.COUNT(SQL("*"))])
    condition = reduce(and_, [look.condition(entries.c) for look in looks])
    return Select([entries], [Value(state), fn.COUNT(SQL("*")), fn.COUNT(Case(None, [(condition, 1)]))])


def all_matching(query: RunQuery) -> "ModelSelect[Run]":
    """Return the query for all matching runs, in no order, without a scan limit: id, state and enqueue time."""
    conditions = [
        look.condition(Run)
        for look in [*set_filters(query, *FIELDS), *time_filters(query, "ended"), *query.row_filters]
    ]
    # Beside an end time this condition selects little, and SQLite would use its index.
    columns = SimpleNamespace(enqueued_at=fn.COALESCE(Run.enqueued_at, None)) if query.ended else Run
    conditions += [look.condition(columns) for look in time_filters(query, "enqueued")]
    if query.id_prefix:
        conditions.append(id_prefix_filter(query.id_prefix))
    runs = Run.select(Run.id, Run.state, Run.enqueued_at)
    return runs.where(*conditions) if conditions else runs
