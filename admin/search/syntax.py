"""The syntax of the search box for runs. `admin.search.run_query` has the keys.

    state:failed,dead task:process_* "connection refused" args.hours:24 duration:>5s -worker:w-1

All terms must match. A comma means "or", a minus before a term "not", `*` in a name any characters. A word without a
key is searched in the task's name, the error and the arguments.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from flask_babel import gettext as _

MAX_LENGTH = 500


class InvalidSearch(ValueError):
    """An invalid search. The message names the word."""


class Term(NamedTuple):
    """`key` is empty for a word without a key. `values` were separated by commas."""

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        values = ",".join(quote_value(value, self.key) for value in self.values)
        return f"{'-' * self.negated}{self.key}{':' * bool(self.key)}{values}"


def quote_value(value: str, key: str) -> str:
    plain = bool(value) and not re.search(r'[\s"]', value)
    if plain and ("," not in value if key else not reads_as_key(value)):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def reads_as_key(value: str) -> bool:
    """True if the word would be read as a negation or a key."""
    word = WORD_PATTERN.match(value)
    return value.startswith("-") or bool(word and word["key"])


def format_terms(terms: Iterable[Term]) -> str:
    """Return the terms as text for the search box."""
    return " ".join(map(str, terms))


# --- words → terms -------------------------------------------------------------------------------------------

QUOTED_PATTERN = r'"(?:[^"\\]|\\.)*"'
WORD_PATTERN = re.compile(
    rf'(?P<minus>-?)(?:(?P<key>[a-z_]+(?:\.[^\s:"]+)?):)?(?P<value>{QUOTED_PATTERN}|[^\s"]*)(?P<rest>\S*)'
)


def parse_search(text: str) -> list[Term]:
    """Parse the text of a search box. Raises InvalidSearch."""
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise InvalidSearch(_("A search must be at most %(longest)s printable characters long.", longest=MAX_LENGTH))
    terms, position = [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        word = WORD_PATTERN.match(text, position)
        assert word
        if word["rest"]:
            raise InvalidSearch(has_bad_quotes(word[0]))
        terms.append(parse_term(word))
        position = word.end()
    return terms


def has_bad_quotes(word: str) -> str:
    if word.count('"') % 2:
        return _("%(word)s: add the closing quote.", word=word)
    return _("%(word)s: quotes must enclose the whole word.", word=word)


def parse_term(word: re.Match[str]) -> Term:
    key, value = word["key"] or "", word["value"]
    if value.startswith('"'):
        values: tuple[str, ...] = (re.sub(r"\\(.)", r"\1", value[1:-1]),)
    else:
        values = tuple(value.split(",")) if key else (value,)
    if not all(values):
        raise InvalidSearch(_("%(word)s: add a value.", word=word[0]))
    return Term(key, values, bool(word["minus"]))
