"""What a list is asked for, in its URL: the tab, the filters beside it, and links that change one thing about it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flask import request, url_for
from flask_babel import gettext as _

from admin.problems import InvalidInput

MAX_LENGTH = 200


def link(endpoint: str, values: Mapping[str, str]) -> str:
    """The address of a page with these values: those of its path, and those behind the question mark."""
    arguments: dict[str, Any] = dict(values)
    return url_for(endpoint, **arguments)


class FilterChip(NamedTuple):
    """A filter in use that has no field of its own: what it says, and the list without it."""

    text: str
    without: str


class ListFilters:
    """`state` is the tab, one of `states` unless it is given; `values` are the filters beside it, not in use where
    empty.
    """

    #: What the tab is called in the address.
    tab = "state"

    def __init__(self, endpoint: str, states: Iterable[str], state: str = "", **values: str) -> None:
        self.endpoint, self.states, self.values = endpoint, list(states), values
        self.state = state or read_choice(self.tab, self.states)
        self.chips: list[FilterChip] = []

    def __getattr__(self, name: str) -> str:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def url_with(self, **changes: str) -> str:
        """This list, with these filters instead; from its first page on."""
        values = {self.tab: self.state, **self.values, **changes}
        if values[self.tab] == self.states[0]:
            del values[self.tab]
        return link(self.endpoint, {name: value for name, value in values.items() if value})

    def chip(self, name: str, text: str) -> None:
        self.chips.append(FilterChip(text, self.url_with(**{name: ""})))

    @property
    def tabs(self) -> list[tuple[str, str]]:
        return [(state, self.url_with(**{self.tab: state})) for state in self.states]

    @property
    def filtered(self) -> bool:
        return any(self.values.values())

    @property
    def unfiltered(self) -> str:
        return self.url_with(**dict.fromkeys(self.values, ""))

    @property
    def query(self) -> str:
        """What stands behind the question mark of this list's URL."""
        return self.url_with().partition("?")[2]

    def hidden(self, *shown: str) -> list[tuple[str, str]]:
        """What a form with the fields `shown` must carry along."""
        values = {self.tab: self.state, **self.values}
        return [(name, value) for name, value in values.items() if value and name not in shown]


def read_text(name: str, longest: int = MAX_LENGTH) -> str:
    """A filter as it was typed. Raises InvalidInput."""
    value = request.args.get(name, "").strip()
    if len(value) > longest or not value.isprintable():
        raise InvalidInput(name, _("at most %(most)s printable characters are allowed", most=longest))
    return value


def read_choice(name: str, allowed: list[str]) -> str:
    """One of these words, the first where nothing is given. Raises InvalidInput."""
    value = request.args.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(name, _("one of %(allowed)s is allowed", allowed=", ".join(filter(None, allowed))))
    return value
