"""The words of the search box of the runs. What they mean is in `admin.search.run_query`.

    state:failed,dead task:process_* "connection refused" args.hours:24 duration:>5s -worker:w-1

All terms must hold; a comma stands for "or", a minus before a term for "not", `*` in a name for any characters. A word
without a key is looked for in the task's name, the error and the arguments.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from flask_babel import gettext as _

MAX_LENGTH = 500


class InvalidSearch(ValueError):
    """A search that cannot be understood. The message names the word."""


class Term(NamedTuple):
    """`key` is empty for a word to be looked for; `values` are those that a comma separates."""

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
    """Whether a word would be read as a negation, or as the key of a term."""
    word = WORD_PATTERN.match(value)
    return value.startswith("-") or bool(word and word["key"])


def format_terms(terms: Iterable[Term]) -> str:
    """The search that means these terms."""
    return " ".join(map(str, terms))


# --- words → terms -------------------------------------------------------------------------------------------

QUOTED_PATTERN = r'"(?:[^"\\]|\\.)*"'
WORD_PATTERN = re.compile(
    rf'(?P<minus>-?)(?:(?P<key>[a-z_]+(?:\.[^\s:"]+)?):)?(?P<value>{QUOTED_PATTERN}|[^\s"]*)(?P<rest>\S*)'
)


def parse_search(text: str) -> list[Term]:
    """Raises InvalidSearch."""
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise InvalidSearch(_("A search is at most %(longest)s printable characters.", longest=MAX_LENGTH))
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
        return _("%(word)s: the closing quote is missing.", word=word)
    return _("%(word)s: quotes must stand around a whole word.", word=word)


def parse_term(word: re.Match[str]) -> Term:
    key, value = word["key"] or "", word["value"]
    if value.startswith('"'):
        values: tuple[str, ...] = (re.sub(r"\\(.)", r"\1", value[1:-1]),)
    else:
        values = tuple(value.split(",")) if key else (value,)
    if not all(values):
        raise InvalidSearch(_("%(word)s: a value is missing.", word=word[0]))
    return Term(key, values, bool(word["minus"]))
