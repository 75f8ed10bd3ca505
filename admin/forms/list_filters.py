"""Filters of a list in its URL: the tab, the other filters, and links that change one of them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flask import request, url_for
from flask_babel import gettext as _

from admin.problems import InvalidInput

MAX_LENGTH = 200


def link(endpoint: str, values: Mapping[str, str]) -> str:
    """Return the address of a page with these values in path and query string."""
    arguments: dict[str, Any] = dict(values)
    return url_for(endpoint, **arguments)


class FilterChip(NamedTuple):
    """An active filter without a form field: its text, and the address without it."""

    text: str
    without: str


class ListFilters:
    """`state` is the tab, read from the request unless given. `values` are the other filters, empty if not in use."""

    #: The name of the tab in the address.
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
        """Return the address of the first page with these filters changed."""
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
        """The query string of the list."""
        return self.url_with().partition("?")[2]

    def hidden(self, *shown: str) -> list[tuple[str, str]]:
        """Return hidden fields for a form that has the fields `shown`."""
        values = {self.tab: self.state, **self.values}
        return [(name, value) for name, value in values.items() if value and name not in shown]


def read_text(name: str, longest: int = MAX_LENGTH) -> str:
    """Return a filter from the request. Raises InvalidInput."""
    value = request.args.get(name, "").strip()
    if len(value) > longest or not value.isprintable():
        raise InvalidInput(name, _("must be at most %(most)s printable characters long", most=longest))
    return value


def read_choice(name: str, allowed: list[str]) -> str:
    """Return a choice from the request, by default the first one. Raises InvalidInput."""
    value = request.args.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(name, _("must be one of %(allowed)s", allowed=", ".join(filter(None, allowed))))
    return value
