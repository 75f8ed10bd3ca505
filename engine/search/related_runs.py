"""The runs around a run: its parent and children, and those of the same task before and after it."""

from datetime import datetime
from typing import NamedTuple

from peewee import ModelSelect, Tuple, Value

from engine.models import Run

#: Enough to name a run. What it was given and what it gave back may be long.
BRIEF_COLUMNS = (Run.id, Run.task, Run.queue, Run.state, Run.enqueued_at, Run.run_ms, Run.parent_id)


class RelatedRuns(NamedTuple):
    parent: Run | None
    before: Run | None
    after: Run | None


def related_runs(run: Run) -> RelatedRuns:
    """In one statement, from indexes."""
    before, after = adjacent_run(run, newer=False), adjacent_run(run, newer=True)
    ids = [before, after, *([run.parent_id] if run.parent_id else [])]
    runs = {row.id: row for row in Run.select(*BRIEF_COLUMNS).where(Run.id.in_(ids))}
    # The parent may be the run before as well.
    same_task = [row for row in runs.values() if row.task == run.task]
    older = [row for row in same_task if position(row) < position(run)]
    newer = [row for row in same_task if position(row) > position(run)]
    return RelatedRuns(
        runs.get(run.parent_id) if run.parent_id else None,
        max(older, key=position, default=None),
        min(newer, key=position, default=None),
    )


def position(run: Run) -> tuple[datetime, str]:
    """Return its place among the runs of its task."""
    return run.enqueued_at, run.id


def adjacent_run(run: Run, newer: bool) -> "ModelSelect[Run]":
    """The id of the next run in the order of the index, which may be of another task already.

    Compared as rows, and ordered by all columns of the index, it is one look, however many runs there are.
    """
    adjacent = Run.alias()
    columns = (adjacent.task, adjacent.enqueued_at, adjacent.id)
    at = Value(run.enqueued_at, converter=Run.enqueued_at.db_value)
    row, this_row = Tuple(*columns), Tuple(Value(run.task), at, Value(run.id))
    order = [column.asc() if newer else column.desc() for column in columns]
    return adjacent.select(adjacent.id).where(row > this_row if newer else row < this_row).order_by(*order).limit(1)


def child_runs(run: Run, most: int) -> list[Run]:
    """The first of them, oldest first."""
    return list(Run.select(*BRIEF_COLUMNS).where(Run.parent_id == run.id).order_by(Run.enqueued_at, Run.id).limit(most))
