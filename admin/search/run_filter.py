"""The filter of the list of runs: URL parameters and search terms combined.

A term that a field can hold moves from the search box into that field, so the two cannot contradict each other.
`q=state:failed zip` becomes `state=failed&q=zip`.
"""

from collections import Counter
from datetime import datetime

from flask_babel import gettext as _

from admin.display.numbers import format_duration
from admin.forms.list_filters import ListFilters, link, read_choice, read_text
from admin.problems import InvalidInput
from admin.search import run_query
from admin.search.syntax import InvalidSearch, Term, format_terms, parse_search
from config import QUEUES
from engine.models import State, now
from engine.search.query_plan import RunQuery

#: Periods that the page offers.
SPANS = ("1h", "24h", "7d")

#: Parameters and their search keys.
PARAMETERS = {
    "state": "state", "task": "task", "queue": "queue", "last": "after", "from": "after", "to": "before",
    "worker": "worker", "by": "by", "ended": "ended",
}  # fmt: skip


class RunFilter(ListFilters):
    """`parsed` is None and `error` set if the search is invalid."""

    parsed: RunQuery | None = None
    error: str | None = None

    def __init__(self, as_of: datetime | None = None) -> None:
        self.as_of = as_of or now()
        values = {name: read_text(name) for name in PARAMETERS}
        values["last"] = read_choice("last", ["", *SPANS])
        values["q"] = read_text("q", longest=1000)
        try:
            terms = parse_search(values["q"])
            run_query.build_query(terms, self.as_of)
            values["q"] = format_terms(move_terms_to_fields(terms, values))
        except InvalidSearch as error:
            self.error = str(error)
        super().__init__("pages.runs", ["all", *State], state=values.pop("state") or "all", **values)
        self.check()
        self.parse_terms()
        self.make_chips()

    def check(self) -> None:
        for name, allowed in (("state", ["all", *State]), ("queue", QUEUES)):
            words = set(filter(None, getattr(self, name).split(",")))
            if words - set(allowed) or ("all" in words and len(words) > 1):
                raise InvalidInput(name, _("must be one of %(allowed)s", allowed=", ".join(allowed)))
        for name in ("from", "to"):
            if self.values[name] and not is_absolute(self.values[name]):
                raise InvalidInput(name, _("must be a date or time such as 2026-11-23T10:00"))
        for name in PARAMETERS:
            try:
                run_query.build_query(self.parameter_terms(name), self.as_of)
            except InvalidSearch as error:
                raise InvalidInput(name, str(error)) from error

    def parameter_terms(self, name: str) -> list[Term]:
        value = self.state if name == "state" else self.values[name]
        if not value or (name, value) == ("state", "all"):
            return []
        return [Term(PARAMETERS[name], tuple(filter(None, value.split(","))))]

    @property
    def all_parameter_terms(self) -> list[Term]:
        return [term for name in PARAMETERS for term in self.parameter_terms(name)]

    def parse_terms(self) -> None:
        if self.error:
            return
        try:
            self.terms = [*self.all_parameter_terms, *parse_search(self.values["q"])]
            self.parsed = run_query.build_query(self.terms, self.as_of)
        except InvalidSearch as error:
            self.error = str(error)

    @property
    def run_query(self) -> RunQuery:
        """The query. Raises InvalidInput for an invalid search."""
        if self.parsed is None:
            raise InvalidInput("q", self.error or "")
        return self.parsed

    @property
    def text(self) -> str:
        """The whole filter as text for the search box."""
        return format_terms(self.terms) if self.parsed else self.values["q"]

    @property
    def is_narrowed(self) -> bool:
        """True if any filter is set."""
        return self.filtered or self.state != self.states[0]

    def url_for(self, endpoint: str, **extra: str) -> str:
        """Return the address of another page with the same filter."""
        values = {"state": self.state, **self.values}
        if self.state == self.states[0]:
            del values["state"]
        return link(endpoint, extra | {name: value for name, value in values.items() if value})

    def make_chips(self) -> None:
        texts = {
            "worker": _("worker %(name)s", name=self.worker),
            "by": _("requested by %(name)s", name=self.by),
            "from": _("from %(time)s", time=format_time(self.values["from"])),
            "to": _("before %(time)s", time=format_time(self.to)),
            "ended": _("ended %(time)s", time=format_time(self.ended)),
        }
        for name, chip_text in texts.items():
            if self.values[name]:
                self.chip(name, chip_text)


def format_time(time: str) -> str:
    """Return `24h`, `2026-11-23T10:00` or `2026-11-23..2026-11-24` as readable text."""
    if run_query.parse_ms(time) is not None:
        return _("in the last %(span)s", span=format_duration(run_query.parse_ms(time)))
    return " – ".join(end.replace("T", " ").removesuffix("+00:00") for end in time.split("..")) + " UTC"


def is_absolute(time: str) -> bool:
    """True for a date or time in whole seconds, which the browser's field accepts."""
    try:
        return not datetime.fromisoformat(time).microsecond
    except ValueError:
        return False


def move_terms_to_fields(terms: list[Term], values: dict[str, str]) -> list[Term]:
    """Move terms that fit a field into `values`. Return the other terms."""
    times = Counter(term.key for term in terms)
    return [term for term in terms if times[term.key] > 1 or not assign_field(term, values)]


def assign_field(term: Term, values: dict[str, str]) -> bool:
    """Store a term in its field. False if no field accepts it. A term replaces the value of its field."""
    if term.negated or any("," in value for value in term.values):
        return False
    value = ",".join(term.values)
    if term.key in ("state", "task", "queue", "worker", "by", "ended"):
        values[term.key] = value
        return True
    name = {"after": "last" if value in SPANS else "from", "before": "to"}.get(term.key)
    if name is None or values[name] or not (name == "last" or is_absolute(value)):
        return False
    values[name] = value
    return True
