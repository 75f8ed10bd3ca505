"""Error groups: failures of one task with one exception, raised at one place in the project's code.

The recorder writes the groups in the transaction that writes the attempts. It counts each failed attempt as
`error:<id>` beside the counts of runs. Without failures it does nothing.
"""

import json
import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

from peewee import Expression

from engine.database import database
from engine.history.tracebacks import parse_traceback
from engine.models import ErrorGroup, now

MAX_MESSAGE = 2000

ID_PATTERN = re.compile(r"[0-9a-f]{12}")

EXCEPTION_PATTERN = re.compile(r"([A-Za-z_][A-Za-z_0-9.]*)(?::|$)")
DIED, UNREADABLE, NOT_KNOWN, UNKNOWN = "WorkerDied", "Unreadable", "UnknownTask", "Error"

#: Parts of a message that differ between failures of the same kind.
VARYING_PARTS = (
    (re.compile(r"0x[0-9a-fA-F]+"), "…"),
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "…"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b"), "…"),
    (re.compile(r"\b[0-9]+([.,:][0-9]+)*"), "…"),
)


class Fingerprint(NamedTuple):
    """The common part of a group's failures. `place`: `reading/books.py, in open_epub`, or empty without a frame."""

    id: str
    task: str
    exception: str
    place: str
    code: str  # the line there, or the message if there is no frame, both normalised


def fingerprint(task: str, error: str | None, traceback: str | None, exception: str = "") -> Fingerprint:
    error = error or ""
    if not exception:
        match = EXCEPTION_PATTERN.match(error)
        exception = match[1] if match else UNKNOWN
    place, code = culprit_frame(traceback) if traceback else ("", "")
    code = code or normalise(error[:MAX_MESSAGE])
    content = json.dumps([task, exception, place, code]).encode()
    return Fingerprint(blake2b(content, digest_size=6).hexdigest(), task, exception, place, code)


@lru_cache(maxsize=64)
def culprit_frame(traceback: str) -> tuple[str, str]:
    """Return place and code of the innermost frame in project code. Line numbers are left out, as code moves."""
    own = parse_traceback(traceback).own
    if not own:
        return "", ""
    file, _, function = own[-1].place.rpartition(", in ")
    line = own[-1].code.partition("\n")[0].strip()
    return normalise(f"{file.rpartition(':')[0]}, in {function}"), normalise(line)


def normalise(text: str) -> str:
    for pattern, replacement in VARYING_PARTS:
        text = pattern.sub(replacement, text)
    return text


# --- saving --------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """A failed attempt. `at` is the database value of its time."""

    at: str
    version: str | None
    message: str


class FailureBatch:
    def __init__(self) -> None:
        self.groups: dict[str, tuple[Fingerprint, list[Failure]]] = {}

    def add(self, kind: Fingerprint, failure: Failure) -> None:
        self.groups.setdefault(kind.id, (kind, []))[1].append(failure)

    def save(self) -> None:
        """Upsert the groups in the caller's transaction. A resolved group that fails again becomes `regressed`."""
        for _, (kind, failures) in sorted(self.groups.items()):
            first, last = (choose(failures, key=attrgetter("at")) for choose in (min, max))
            group = (kind.id, kind.task, kind.exception, kind.place, kind.code)
            ends = (first.at, first.version, last.at, last.version, last.message[:MAX_MESSAGE])
            database.execute_sql(SAVE.format(param=database.param), [*group, *ends])


NEWER = "excluded.last_seen_at >= dewey_errors.last_seen_at"
OLDER = "excluded.first_seen_at < dewey_errors.first_seen_at"
REGRESSED = "dewey_errors.state = 'resolved' AND excluded.last_seen_at > dewey_errors.resolved_at"


def case_when(condition: str, name: str, otherwise: str = "") -> str:
    return f"{name} = CASE WHEN {condition} THEN {otherwise or f'excluded.{name}'} ELSE dewey_errors.{name} END"


SAVE = (
    "INSERT INTO dewey_errors (id, task, exception, place, code, first_seen_at, first_version, last_seen_at,"
    " last_version, message, state)"
    " VALUES ({param}, {param}, {param}, {param}, {param}, {param}, {param}, {param}, {param}, {param}, 'open')"
    " ON CONFLICT (id) DO UPDATE SET "
) + ", ".join(
    [
        *(case_when(OLDER, name) for name in ("first_seen_at", "first_version")),
        *(case_when(NEWER, name) for name in ("last_seen_at", "last_version", "message")),
        case_when(REGRESSED, "state", "'regressed'"),
        case_when(REGRESSED, "regressed_at", "excluded.last_seen_at"),
    ]
)


def delete_older(before: datetime) -> None:
    ErrorGroup.delete().where(ErrorGroup.last_seen_at < before).execute()


# --- decisions of operators ----------------------------------------------------------------------------------


def resolve_group(group: str, by: str) -> bool:
    changes = {"state": "resolved", "resolved_at": now(), "resolved_by": by, "regressed_at": None}
    unresolved = (ErrorGroup.id == group) & (ErrorGroup.state != "resolved")
    return bool(ErrorGroup.update(**changes, snoozed_until=None, snoozed_by=None).where(unresolved).execute())


def reopen_group(group: str) -> bool:
    changes = dict.fromkeys(("resolved_at", "resolved_by", "snoozed_until", "snoozed_by"))
    put_away = (ErrorGroup.state == "resolved") | ErrorGroup.snoozed_until.is_null(False)
    return bool(ErrorGroup.update(state="open", **changes).where((ErrorGroup.id == group) & put_away).execute())


def snooze_group(group: str, until: datetime, by: str) -> bool:
    unresolved = (ErrorGroup.id == group) & (ErrorGroup.state != "resolved")
    return bool(ErrorGroup.update(snoozed_until=until, snoozed_by=by).where(unresolved).execute())


def state_filter(state: str, as_of: datetime) -> Expression | None:
    """Return the condition for a list of groups: `open` (also regressed), `snoozed`, `resolved`. None for `all`."""
    snoozed = ErrorGroup.snoozed_until > as_of
    awake = ErrorGroup.snoozed_until.is_null() | (ErrorGroup.snoozed_until <= as_of)
    return {
        "open": (ErrorGroup.state != "resolved") & awake,
        "snoozed": (ErrorGroup.state != "resolved") & snoozed,
        "resolved": ErrorGroup.state == "resolved",
    }.get(state)
