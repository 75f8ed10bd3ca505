"""Related runs: parent, children, and the previous and next run of the same task."""

from datetime import datetime
from typing import NamedTuple

from peewee import ModelSelect, Tuple, Value

from engine.models import Run

#: Columns that name a run. Arguments and results are left out, as they may be long.
BRIEF_COLUMNS = (Run.id, Run.task, Run.queue, Run.state, Run.enqueued_at, Run.run_ms, Run.parent_id)


class RelatedRuns(NamedTuple):
    parent: Run | None
    before: Run | None
    after: Run | None


def related_runs(run: Run) -> RelatedRuns:
    before, after = adjacent_run(run, newer=False), adjacent_run(run, newer=True)
    ids = [before, after, *([run.parent_id] if run.parent_id else [])]
    runs = {row.id: row for row in Run.select(*BRIEF_COLUMNS).where(Run.id.in_(ids))}
    # The parent may also be the previous run.
    same_task = [row for row in runs.values() if row.task == run.task]
    older = [row for row in same_task if position(row) < position(run)]
    newer = [row for row in same_task if position(row) > position(run)]
    return RelatedRuns(
        runs.get(run.parent_id) if run.parent_id else None,
        max(older, key=position, default=None),
        min(newer, key=position, default=None),
    )


def position(run: Run) -> tuple[datetime, str]:
    return run.enqueued_at, run.id


def adjacent_run(run: Run, newer: bool) -> "ModelSelect[Run]":
    """Return the query for the next run's id in index order. Row comparison makes it one index lookup."""
    adjacent = Run.alias()
    columns = (adjacent.task, adjacent.enqueued_at, adjacent.id)
    at = Value(run.enqueued_at, converter=Run.enqueued_at.db_value)
    row, this_row = Tuple(*columns), Tuple(Value(run.task), at, Value(run.id))
    order = [column.asc() if newer else column.desc() for column in columns]
    return adjacent.select(adjacent.id).where(row > this_row if newer else row < this_row).order_by(*order).limit(1)


def child_runs(run: Run, most: int) -> list[Run]:
    return list(Run.select(*BRIEF_COLUMNS).where(Run.parent_id == run.id).order_by(Run.enqueued_at, Run.id).limit(most))
