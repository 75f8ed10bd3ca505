"""The runs around a run: its parent and children, and those of the same task before and after it."""

from typing import NamedTuple

from peewee import ModelSelect, Tuple, Value

from engine.models import Run

#: Enough to name a run. What it was given and what it gave back may be long.
BRIEF = (Run.id, Run.task, Run.queue, Run.state, Run.enqueued_at, Run.run_ms, Run.parent_id)


class Kin(NamedTuple):
    parent: Run | None
    before: Run | None
    after: Run | None


def around(run: Run) -> Kin:
    """In one statement, from indexes."""
    before, after = neighbour(run, newer=False), neighbour(run, newer=True)
    ids = [before, after, *([run.parent_id] if run.parent_id else [])]
    found = {one.id: one for one in Run.select(*BRIEF).where(Run.id.in_(ids))}
    parent = found.pop(run.parent_id, None) if run.parent_id else None
    here = (run.enqueued_at, run.id)
    # A parent may be the run before as well.
    beside = [one for one in [*found.values(), *([parent] if parent else [])] if one.task == run.task]
    older = [one for one in beside if (one.enqueued_at, one.id) < here]
    newer = [one for one in beside if (one.enqueued_at, one.id) > here]
    return Kin(
        parent,
        max(older, key=lambda one: (one.enqueued_at, one.id), default=None),
        min(newer, key=lambda one: (one.enqueued_at, one.id), default=None),
    )


def neighbour(run: Run, newer: bool) -> "ModelSelect[Run]":
    """The id of the next run in the order of the index, which may be of another task already.

    Compared as rows, and ordered by all columns of the index, it is one look, however many runs there are.
    """
    other = Run.alias()
    columns = (other.task, other.enqueued_at, other.id)
    at = Value(run.enqueued_at, converter=Run.enqueued_at.db_value)
    place, here = Tuple(*columns), Tuple(Value(run.task), at, Value(run.id))
    order = [column.asc() if newer else column.desc() for column in columns]
    return other.select(other.id).where(place > here if newer else place < here).order_by(*order).limit(1)


def children(run: Run, most: int) -> list[Run]:
    """The first of them, oldest first."""
    mine = Run.parent_id == run.id
    return list(Run.select(*BRIEF).where(mine).order_by(Run.enqueued_at, Run.id).limit(most))
