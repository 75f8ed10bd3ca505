"""Row filters of a search that no index answers: words, names with `*`, arguments, durations.

Latin letters match in any case. For other letters, the usual cases of a word are tried.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from peewee import SQL, ColumnBase, Field, NodeList, Value, fn

from engine.database import on_postgresql
from engine.models import Run, State

#: The states of runs that may have a stored error.
STATES_WITH_ERRORS = frozenset((State.FAILED, State.DEAD, State.RETRYING, State.CANCELLED, State.EXPIRED))


#: An object with columns as attributes: a model, or the `c` of a subquery.
Columns = Any


class RowFilter(NamedTuple):
    fields: tuple[Field, ...]
    condition: Callable[[Columns], ColumnBase]


def negate(look: RowFilter) -> RowFilter:
    """Negate a filter. NULL does not meet a condition, and so meets its negation."""
    return RowFilter(look.fields, lambda columns: ~fn.COALESCE(look.condition(columns), SQL("false")))


def any_words(phrases: Iterable[str]) -> RowFilter:
    return containing(
        (Run.task, Run.error, Run.args, Run.kwargs), [form for phrase in phrases for form in escaped_forms(phrase)]
    )


def contains(field: Field, phrases: Iterable[str]) -> RowFilter:
    return containing((field,), [form for phrase in phrases for form in case_variants(phrase)])


def containing(fields: tuple[Field, ...], phrases: list[str]) -> RowFilter:
    return matching(fields, [f"%{escaped(phrase)}%" for phrase in phrases])


def matches_any(field: Field, names: Iterable[str]) -> RowFilter:
    patterns = [escaped(name).replace("*", "%") for name in names]
    return matching((field,), patterns)


def starts_with(field: Field, prefix: str) -> RowFilter:
    return matching((field,), [f"{escaped(prefix)}%"])


def requested_by(names: Iterable[str], kinds: Iterable[str]) -> RowFilter:
    chosen, rest = sorted(set(names) & set(kinds)), [name for name in names if name not in set(kinds)]
    by_name = matches_any(Run.asked_by, rest) if rest else None

    def condition(columns: Columns) -> ColumnBase:
        of_kind: ColumnBase = columns.asked_by_kind.in_(chosen)
        return of_kind | by_name.condition(columns) if by_name else of_kind

    return RowFilter((Run.asked_by_kind, Run.asked_by), condition)


def argument_filter(path: list[str], values: Iterable[str], tasks: Iterable[str] = ()) -> RowFilter:
    """Match rows with one of these values in an argument, with `*` as a wildcard. `path` descends into objects.

    The comparison is textual, so a name nested deeper than `path` matches too. For `tasks` the argument may be
    positional.
    There a value at any position matches.
    """
    keys = "%".join(escaped(json.dumps(name)) + ":" for name in path)
    named, placed = [], []
    for value in values:
        text = escaped(json.dumps(value)[1:-1]).replace("*", "%")
        named += [f'%{keys}"{text}"%', f"%{keys}{text},%", f"%{keys}{text}}}%"]
        for form in (text, f'"{text}"'):
            placed += [f"[{form}]", f"[{form},%", f"%,{form},%", f"%,{form}]"]
    by_name, by_place = matching((Run.kwargs,), named), matching((Run.args,), placed)
    takers = sorted(tasks)
    if not takers:
        return by_name
    return RowFilter(
        (Run.kwargs, Run.args, Run.task),
        lambda columns: by_name.condition(columns) | (columns.task.in_(takers) & by_place.condition(columns)),
    )


COMPARISONS = {"=": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}


def compare_number(field: Field, how: str, number: float) -> RowFilter:
    return RowFilter((field,), lambda columns: getattr(getattr(columns, field.name), COMPARISONS[how])(number))


# --- text ----------------------------------------------------------------------------------------------------


def matching(fields: tuple[Field, ...], patterns: list[str]) -> RowFilter:
    def condition(columns: Columns) -> ColumnBase:
        texts = [getattr(columns, field.name) for field in fields]
        if on_postgresql():
            # Collation "C": LOWER with a language is ten times as slow. The text is read once.
            text = fn.LOWER((fn.CONCAT_WS("\n", *texts) if len(texts) > 1 else texts[0]).collate('"C"'))
            return any_of([like(text, lower_latin(pattern)) for pattern in patterns])
        return any_of([like(text, pattern) for pattern in patterns for text in texts])

    return RowFilter(fields, condition)


def any_of(conditions: list[ColumnBase]) -> ColumnBase:
    """Return `(a OR b OR c)`. With `|` each condition would nest one deeper, which SQLite limits."""
    return NodeList(conditions, glue=" OR ", parens=True)


def like(text: ColumnBase, pattern: str) -> ColumnBase:
    return NodeList((text, SQL("LIKE"), Value(pattern, unpack=False), SQL("ESCAPE '\\'")), parens=True)


def escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def lower_latin(text: str) -> str:
    return re.sub("[A-Z]+", lambda letters: letters[0].lower(), text)


def case_variants(phrase: str) -> list[str]:
    return sorted({phrase} if phrase.isascii() else {phrase, phrase.lower(), phrase.upper(), phrase.capitalize()})


def escaped_forms(phrase: str) -> list[str]:
    """Return the phrase as it may appear in an error, and in JSON."""
    return sorted({text for case in case_variants(phrase) for text in (case, json.dumps(case)[1:-1])})
