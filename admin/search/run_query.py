"""What the terms of a search mean: which runs, and how each key reads its values."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString
from peewee import Field

import tasks
from admin.search.syntax import BadSearch, Term
from config import QUEUES
from engine.history import error_groups
from engine.history.run_counts import full_minute
from engine.models import Run, State
from engine.monitor import registered_tasks
from engine.search import filters
from engine.search.filters import Look
from engine.search.query_plan import Lookup, Window

#: Who asked, where it is no person's or program's name.
KINDS = ("schedule", "operator", "token", "cli", "run", "code")


def lookup(terms: Iterable[Term], as_of: datetime) -> Lookup:
    """The runs that these terms mean, as of an instant. Raises BadSearch."""
    query = Lookup()
    for term in terms:
        query = means(term, query, as_of)
    return query


def means(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    """What is wanted already, and this too."""
    if not term.key:
        return looked_at(query, filters.words(term.values), term)
    if term.key.startswith("args."):
        path = term.key.removeprefix("args.").split(".")
        return looked_at(query, filters.argument(path, term.values, takers(path)), term)
    if term.key not in KEYS:
        raise search_error(
            term, _("there is no filter %(key)s; a word with a colon needs quotes around it.", key=term.key)
        )
    return KEYS[term.key].means(term, query, as_of)


def takers(path: list[str]) -> list[str]:
    """The tasks that have an argument of this name, which a caller may also give by its place."""
    registered = registered_tasks.registered(tasks.queues) if len(path) == 1 else []
    return [fact.name for fact in registered if path[0] in [parameter.name for parameter in fact.parameters]]


def looked_at(query: Lookup, look: Look, term: Term) -> Lookup:
    return replace(query, looks=(*query.looks, filters.opposite(look) if term.negated else look))


def search_error(term: Term, message: str) -> BadSearch:
    return BadSearch(f"{term}: {message}")


def state(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    states = checked_words(term, [str(name) for name in State])
    return replace(query, states=common(query.states, frozenset(State) - states if term.negated else states))


def queue(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    queues = checked_words(term, QUEUES)
    if term.negated:
        return looked_at(query, filters.one_of(Run.queue, term.values), term)
    return replace(query, queues=common(query.queues, queues))


def checked_words(term: Term, allowed: Iterable[str]) -> frozenset[str]:
    if set(term.values) - set(allowed):
        raise search_error(term, _("one of %(words)s is needed.", words=", ".join(allowed)))
    return frozenset(term.values)


def common(before: frozenset[str] | None, chosen: frozenset[str]) -> frozenset[str]:
    return chosen if before is None else before & chosen


def task(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    if term.negated or any("*" in value for value in term.values):
        return looked_at(query, filters.one_of(Run.task, term.values), term)
    return replace(query, tasks=common(query.tasks, frozenset(term.values)))


def by(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    if not (term.negated or set(term.values) & set(KINDS) or any("*" in value for value in term.values)):
        return replace(query, people=common(query.people, frozenset(term.values)))
    return looked_at(query, filters.asked_by(term.values, KINDS), term)


def worker(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    return looked_at(query, filters.holds(Run.worker, term.values), term)


def error(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    if not term.negated and all(error_groups.ID.fullmatch(value) for value in term.values):
        return replace(query, errors=common(query.errors, frozenset(term.values)))
    if not term.negated:
        query = replace(query, states=common(query.states, filters.HAVE_ERRORS))
    return looked_at(query, filters.holds(Run.error, term.values), term)


def run_id(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    value = single(term)
    if len(value) < 4:
        raise search_error(term, _("at least four characters of an id are needed."))
    if query.id_prefix:
        return looked_at(query, filters.begins(Run.id, value), term)
    return replace(query, id_prefix=value)


def parent(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    if term.negated:
        return looked_at(query, filters.one_of(Run.parent_id, term.values), term)
    return replace(query, parents=common(query.parents, frozenset(term.values)))


def single(term: Term) -> str:
    if term.negated or len(term.values) > 1:
        raise search_error(term, _("one value is needed, and no minus."))
    return term.values[0]


def run_ms(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    return compared(Run.run_ms, term, query)


def wait_ms(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    return compared(Run.wait_ms, term, query)


def compared(field: Field, term: Term, query: Lookup) -> Lookup:
    match = re.fullmatch(r"([<>]=?)(.+)", single_or_minus(term))
    ms = match and in_ms(match[2])
    if not match or ms is None:
        raise search_error(term, _("such as >5s, <200ms, >=1m or >2h is needed."))
    return looked_at(query, filters.compares(field, match[1], ms), term)


def attempts(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    match = re.fullmatch(r"([<>]=?|)([0-9]{1,6})", single_or_minus(term))
    if not match:
        raise search_error(term, _("such as >1 or 3 is needed."))
    return looked_at(query, filters.compares(Run.attempts, match[1] or "=", int(match[2])), term)


def single_or_minus(term: Term) -> str:
    return single(term._replace(negated=False))


UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def in_ms(text: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|min|m|h|d|w)", text)
    return float(match[1]) * UNITS[match[2]] if match else None


# --- time ----------------------------------------------------------------------------------------------------


def after(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    since = instant(term, single(term), as_of)
    return replace(query, asked=query.asked._replace(since=max(since, query.asked.since or since)))


def before(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    until = instant(term, single(term), as_of)
    return replace(query, asked=query.asked._replace(until=min(until, query.asked.until or until)))


def ended(term: Term, query: Lookup, as_of: datetime) -> Lookup:
    """`24h`: from a full minute on, as the tiles and charts count; `from..to`: and before."""
    since, dots, until = single(term).partition("..")
    start, end = query.ended or Window()
    first = full_minute(instant(term, since, as_of)) if in_ms(since) else instant(term, since, as_of)
    first = max(first, start or first)
    if dots:
        last = instant(term, until, as_of)
        return replace(query, ended=Window(first, min(last, end or last)))
    return replace(query, ended=Window(first, end))


def instant(term: Term, text: str, as_of: datetime) -> datetime:
    """`24h` ago, or a date or instant in ISO 8601; UTC unless it says otherwise."""
    try:
        if (ms := in_ms(text)) is not None:
            return as_of - timedelta(milliseconds=ms)
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise search_error(term, _("a time such as 24h, 2026-11-23 or 2026-11-23T10:00 is needed.")) from None


def pinned(terms: Iterable[Term], as_of: datetime) -> list[Term]:
    """The same terms, which mean the same runs also later: nothing that was asked for after this instant, and what is
    counted back from now is counted back from it.
    """
    fixed = []
    for term in terms:
        if term.key in ("after", "before", "ended") and in_ms(term.values[0].partition("..")[0]) is not None:
            query = means(term, Lookup(), as_of)
            window = query.ended or query.asked
            since, until = (at.isoformat() if at else "" for at in window)
            dots = ".." if term.key == "ended" and until else ""
            term = term._replace(values=((until if term.key == "before" else since + dots + until * bool(dots)),))
        fixed.append(term)
    return [*fixed, Term("before", (as_of.isoformat(),))]


# --- the keys ------------------------------------------------------------------------------------------------


class Key(NamedTuple):
    means: Callable[[Term, Lookup, datetime], Lookup]
    example: str
    help: LazyString


KEYS: dict[str, Key] = {
    "state": Key(state, "state:failed,dead", lazy_gettext("in one of these states")),
    "task": Key(task, "task:process_*", lazy_gettext("of this task")),
    "queue": Key(queue, "queue:light", lazy_gettext("of this queue")),
    "error": Key(error, 'error:"connection refused"', lazy_gettext("whose error holds this; or a group's id")),
    "worker": Key(worker, "worker:Worker-1", lazy_gettext("whose last worker's name holds this")),
    "by": Key(by, "by:anna@example.org", lazy_gettext("asked for by this person or token; or by:schedule…")),
    "duration": Key(run_ms, "duration:>5s", lazy_gettext("whose last attempt ran so long; ms, s, m, h, d")),
    "waited": Key(wait_ms, "waited:>1m", lazy_gettext("that waited so long")),
    "attempts": Key(attempts, "attempts:>1", lazy_gettext("that took so many attempts")),
    "after": Key(after, "after:2026-11-23", lazy_gettext("asked for from then on; or after:24h")),
    "before": Key(before, "before:2026-11-23T10:00", lazy_gettext("asked for before; UTC")),
    "ended": Key(ended, "ended:24h", lazy_gettext("that ended since then; or ended:2026-11-23..2026-11-24")),
    "id": Key(run_id, "id:8b6ed5c7", lazy_gettext("whose id begins so")),
    "parent": Key(parent, "parent:8b6ed5c7-…", lazy_gettext("asked for by this run")),
}  # fmt: skip
