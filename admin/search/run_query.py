"""Search terms to queries for runs: the keys and their values."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString
from peewee import Field

import tasks
from admin.search.syntax import InvalidSearch, Term
from config import QUEUES
from engine.history import error_groups
from engine.history.run_counts import full_minute
from engine.models import Run, State
from engine.monitor import registered_tasks
from engine.search import filters
from engine.search.filters import RowFilter
from engine.search.query_plan import RunQuery, TimeRange

#: Kinds of requesters that `by:` accepts beside names.
REQUESTER_KINDS = ("schedule", "operator", "token", "cli", "run", "code")


#: Most words and values of a search. Databases limit how deep a condition may be.
MAX_VALUES = 50


def build_query(terms: Sequence[Term], as_of: datetime) -> RunQuery:
    """Return the query for these terms. Relative times count from `as_of`. Raises InvalidSearch."""
    if sum(len(term.values) for term in terms) > MAX_VALUES:
        raise InvalidSearch(_("A search must have at most %(most)s words and values.", most=MAX_VALUES))
    query = RunQuery()
    for term in terms:
        query = apply_term(term, query, as_of)
    return query


def apply_term(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    """Return the query narrowed by a term. Raises InvalidSearch."""
    if not term.key:
        return add_row_filter(query, filters.any_words(term.values), term)
    if term.key.startswith("args."):
        path = term.key.removeprefix("args.").split(".")
        return add_row_filter(query, filters.argument_filter(path, term.values, tasks_with_argument(path)), term)
    if term.key not in SEARCH_KEYS:
        raise search_error(term, _("unknown filter %(key)s. Put a word with a colon in quotes.", key=term.key))
    return SEARCH_KEYS[term.key].apply(term, query, as_of)


def tasks_with_argument(path: list[str]) -> list[str]:
    """Return the tasks with a parameter of this name, which callers may pass by position."""
    registered = registered_tasks.list_tasks(tasks.queues) if len(path) == 1 else []
    return [fact.name for fact in registered if path[0] in [parameter.name for parameter in fact.parameters]]


def add_row_filter(query: RunQuery, look: RowFilter, term: Term) -> RunQuery:
    return replace(query, row_filters=(*query.row_filters, filters.negate(look) if term.negated else look))


def search_error(term: Term, message: str) -> InvalidSearch:
    return InvalidSearch(f"{term}: {message}")


def by_state(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    states = checked_words(term, [str(name) for name in State])
    return replace(query, states=intersect(query.states, frozenset(State) - states if term.negated else states))


def by_queue(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    queues = checked_words(term, QUEUES)
    if term.negated:
        return add_row_filter(query, filters.matches_any(Run.queue, term.values), term)
    return replace(query, queues=intersect(query.queues, queues))


def checked_words(term: Term, allowed: Iterable[str]) -> frozenset[str]:
    if set(term.values) - set(allowed):
        raise search_error(term, _("must be one of %(words)s.", words=", ".join(allowed)))
    return frozenset(term.values)


def intersect(before: frozenset[str] | None, chosen: frozenset[str]) -> frozenset[str]:
    return chosen if before is None else before & chosen


def by_task(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    if term.negated or any("*" in value for value in term.values):
        return add_row_filter(query, filters.matches_any(Run.task, term.values), term)
    return replace(query, tasks=intersect(query.tasks, frozenset(term.values)))


def by_requester(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    if not (term.negated or set(term.values) & set(REQUESTER_KINDS) or any("*" in value for value in term.values)):
        return replace(query, people=intersect(query.people, frozenset(term.values)))
    return add_row_filter(query, filters.requested_by(term.values, REQUESTER_KINDS), term)


def by_worker(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    return add_row_filter(query, filters.contains(Run.worker, term.values), term)


def by_error(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    if not term.negated and all(error_groups.ID_PATTERN.fullmatch(value) for value in term.values):
        return replace(query, errors=intersect(query.errors, frozenset(term.values)))
    if not term.negated:
        query = replace(query, states=intersect(query.states, filters.STATES_WITH_ERRORS))
    return add_row_filter(query, filters.contains(Run.error, term.values), term)


def by_id(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    value = single_value(term)
    if len(value) < 4:
        raise search_error(term, _("must be at least four characters of an id."))
    if query.id_prefix:
        return add_row_filter(query, filters.starts_with(Run.id, value), term)
    return replace(query, id_prefix=value)


def by_parent(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    if term.negated:
        return add_row_filter(query, filters.matches_any(Run.parent_id, term.values), term)
    return replace(query, parents=intersect(query.parents, frozenset(term.values)))


def single_value(term: Term) -> str:
    if term.negated or len(term.values) > 1:
        raise search_error(term, _("must be a single value without a minus sign."))
    return term.values[0]


def by_duration(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    return by_number(Run.run_ms, term, query)


def by_waiting(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    return by_number(Run.wait_ms, term, query)


def by_number(field: Field, term: Term, query: RunQuery) -> RunQuery:
    match = re.fullmatch(r"([<>]=?)(.+)", single_or_negated(term))
    ms = match and parse_ms(match[2])
    if not match or ms is None:
        raise search_error(term, _("must be a comparison such as >5s, <200ms, >=1m or >2h."))
    return add_row_filter(query, filters.compare_number(field, match[1], ms), term)


def by_attempts(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    match = re.fullmatch(r"([<>]=?|)([0-9]{1,6})", single_or_negated(term))
    if not match:
        raise search_error(term, _("must be a number or a comparison such as 3 or >1."))
    return add_row_filter(query, filters.compare_number(Run.attempts, match[1] or "=", int(match[2])), term)


def single_or_negated(term: Term) -> str:
    return single_value(term._replace(negated=False))


UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_ms(text: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|min|m|h|d|w)", text)
    return float(match[1]) * UNITS[match[2]] if match else None


# --- time ----------------------------------------------------------------------------------------------------


def by_start_time(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    since = parse_time(term, single_value(term), as_of)
    return replace(query, enqueued=query.enqueued._replace(since=max(since, query.enqueued.since or since)))


def by_end_bound(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    until = parse_time(term, single_value(term), as_of)
    return replace(query, enqueued=query.enqueued._replace(until=min(until, query.enqueued.until or until)))


def by_end_time(term: Term, query: RunQuery, as_of: datetime) -> RunQuery:
    """Read `24h` (from a full minute, as tiles and charts count) or `from..to`."""
    since, dots, until = single_value(term).partition("..")
    start, end = query.ended or TimeRange()
    first = full_minute(parse_time(term, since, as_of)) if parse_ms(since) else parse_time(term, since, as_of)
    first = max(first, start or first)
    if dots:
        last = parse_time(term, until, as_of)
        return replace(query, ended=TimeRange(first, min(last, end or last)))
    return replace(query, ended=TimeRange(first, end))


def parse_time(term: Term, text: str, as_of: datetime) -> datetime:
    """Read `24h` (ago), or a date or time in ISO 8601, UTC without an offset. Raises InvalidSearch."""
    try:
        if (ms := parse_ms(text)) is not None:
            return as_of - timedelta(milliseconds=ms)
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise search_error(term, _("must be a time such as 24h, 2026-11-23 or 2026-11-23T10:00.")) from None


def freeze_relative_times(terms: Iterable[Term], as_of: datetime) -> list[Term]:
    """Return terms that match the same runs later: relative times become absolute, and runs enqueued after `as_of` are
    excluded.
    """
    fixed = []
    for term in terms:
        if term.key in ("after", "before", "ended") and parse_ms(term.values[0].partition("..")[0]) is not None:
            query = apply_term(term, RunQuery(), as_of)
            window = query.ended or query.enqueued
            since, until = (at.isoformat() if at else "" for at in window)
            dots = ".." if term.key == "ended" and until else ""
            term = term._replace(values=((until if term.key == "before" else since + dots + until * bool(dots)),))
        fixed.append(term)
    return [*fixed, Term("before", (as_of.isoformat(),))]


# --- the keys ------------------------------------------------------------------------------------------------


class SearchKey(NamedTuple):
    apply: Callable[[Term, RunQuery, datetime], RunQuery]
    example: str
    help: LazyString


SEARCH_KEYS: dict[str, SearchKey] = {
    "state": SearchKey(by_state, "state:failed,dead", lazy_gettext("runs in one of these states")),
    "task": SearchKey(by_task, "task:process_*", lazy_gettext("runs of this task")),
    "queue": SearchKey(by_queue, "queue:light", lazy_gettext("runs of this queue")),
    "error": SearchKey(
        by_error, 'error:"connection refused"', lazy_gettext("part of the error text, or the id of an error group")
    ),
    "worker": SearchKey(by_worker, "worker:Worker-1", lazy_gettext("part of the name of the last worker")),
    "by": SearchKey(
        by_requester, "by:anna@example.org", lazy_gettext("requested by this user or token, or by:schedule…")
    ),
    "duration": SearchKey(
        by_duration, "duration:>5s", lazy_gettext("duration of the last attempt in ms, s, m, h or d")
    ),
    "waited": SearchKey(by_waiting, "waited:>1m", lazy_gettext("waiting time")),
    "attempts": SearchKey(by_attempts, "attempts:>1", lazy_gettext("number of attempts")),
    "after": SearchKey(by_start_time, "after:2026-11-23", lazy_gettext("enqueued at or after this time, or after:24h")),
    "before": SearchKey(by_end_bound, "before:2026-11-23T10:00", lazy_gettext("enqueued before this time (UTC)")),
    "ended": SearchKey(
        by_end_time, "ended:24h", lazy_gettext("ended in the last 24 hours, or ended:2026-11-23..2026-11-24")
    ),
    "id": SearchKey(by_id, "id:8b6ed5c7", lazy_gettext("prefix of the id")),
    "parent": SearchKey(by_parent, "parent:8b6ed5c7-…", lazy_gettext("requested by this run")),
}
