"""What programs ask about errors: failures that are alike as one group, how often they come, what was decided."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from admin.errors_page import EXAMPLES, known, state_of
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from admin.schemas import columns
from engine import errors, paging
from engine.error_counts import tallies
from engine.records import Attempt, ErrorGroup, now

WINDOWS = ("hour", "day", "week", "total")

#: A group, and how often it came in the last hour, day and week, and in all.
ErrorOf = NamedTuple("ErrorOf", [*columns(ErrorGroup).items(), *((name, int) for name in WINDOWS)])


class Errors(NamedTuple):
    errors: list[ErrorOf]
    next: str | None


class ErrorInFull(NamedTuple):
    """With its latest failures."""

    error: ErrorOf
    examples: list[Attempt]


@read("errors.list", "/errors", columns=("id", "state", "task", "exception", "hour", "day", "week", "last_seen_at"))
def error_groups(
    state: Literal["open", "snoozed", "resolved", "all"] = "open",
    task: str = "",
    before: Cursor = "",
    limit: Limit = 30,
) -> Errors:
    """Groups of failures that are alike, the one that failed last first."""
    condition = None if state == "all" else errors.listed(state, now())
    query = ErrorGroup.select() if condition is None else ErrorGroup.select().where(condition)
    query = query.where(ErrorGroup.task == task) if task else query
    try:
        page = paging.page(query, ErrorGroup.last_seen_at, ErrorGroup.id, limit, before)
    except paging.BadPage as error:
        raise BadInput("before", str(error)) from error
    return Errors(told(page.rows), page.older)


@read("errors.show", "/errors/{error_id}")
def error_group(error_id: str) -> ErrorInFull:
    """One group, with its latest failures."""
    group = known(error_id)
    examples = Attempt.select().where(Attempt.error_group == group.id).order_by(Attempt.ended_at.desc()).limit(EXAMPLES)
    return ErrorInFull(told([group])[0], list(examples))


def told(found: list[ErrorGroup]) -> list[ErrorOf]:
    as_of = now()
    counted: dict[str, Any] = tallies([one.id for one in found], as_of)
    return [ErrorOf(**one.__data__ | facts_of(one, counted[one.id], as_of)) for one in found]


def facts_of(group: ErrorGroup, tally: Any, as_of: datetime) -> dict[str, Any]:
    return {"state": state_of(group, as_of), **{name: getattr(tally, name) for name in WINDOWS}}
