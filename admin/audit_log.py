"""Writing the audit, and finding out whether anybody else did. See `engine.hash_chain`."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

from peewee import fn

from config import settings
from engine import hash_chain
from engine.database import database, on_postgresql
from engine.hash_chain import START
from engine.models import now
from models import AuditEntry, AuditHead

#: What is written before the next row when the end of the list is not as the head has it.
CHAIN_GAP = "audit.gap"
BATCH_SIZE = 1000

SECRET_NAMES = re.compile(r"passw|secret|token|authorization|api_?key|credential", re.IGNORECASE)


@cache
def audit_key() -> bytes:
    return hash_chain.chain_key(settings.secret_key)


# --- writing -------------------------------------------------------------------------------------------------


class Author(Protocol):
    """Who did it, as far as the audit keeps that."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def address(self) -> str | None: ...


def write_entry(
    author: Author, action: str, *, target: str | None = None, before: object = None, after: object = None
) -> None:
    """Add what was done to what, with secrets struck out. Call it as `append_entries`."""
    append_entries(
        actor_kind=author.kind,
        actor=author.name,
        source=author.source,
        action=action,
        target=target,
        before=redact(before),
        after=redact(after),
        address=author.address,
    )


def redact(value: object) -> object:
    """The value without what is under a name that speaks of secrets, however deep."""
    if isinstance(value, Mapping):
        return {key: "***" if SECRET_NAMES.search(str(key)) else redact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner) for inner in value]
    return value


def append_entries(**columns: object) -> AuditEntry:
    """Add a row, in the caller's transaction if there is one. Whoever else adds one waits for its end.

    Call it last in a transaction, so that the wait is short.
    """
    with database.atomic():
        head = locked_head()
        last = AuditEntry.select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).first()
        last_link = (last.id, last.hash) if last else (0, START)
        if not head_is_valid(head) or last_link != (head.last_id, head.hash):
            ends = {"head": head.last_id, "last_row": last_link[0]}
            facts = {"actor_kind": "cli", "actor": "dewey", "source": "cli", "action": CHAIN_GAP, "after": ends}
            gap = link_entry(max(last_link[0], head.last_id) + 1, last_link[1], facts)
            last_link = (gap.id, gap.hash)
        entry = link_entry(last_link[0] + 1, last_link[1], columns)
        move_head(entry)
    return entry


def check_writable() -> None:
    """Raise the database's error when it takes no writes, and so no entry."""
    with database.atomic():
        locked_head()


def locked_head() -> AuditHead:
    """The one row that everybody locks. One that is missing is made anew: it fits an empty list and no other."""
    AuditHead.insert(id=1, last_id=0, hash=START, seal="").on_conflict_ignore().execute()
    query = AuditHead.select().where(AuditHead.id == 1)
    head: AuditHead = (query.for_update() if on_postgresql() else query).get()
    return head


def link_entry(number: int, previous: str, columns: dict[str, Any]) -> AuditEntry:
    row: dict[str, Any] = dict.fromkeys(hash_chain.COLUMNS) | columns | {"id": number, "at": now()}
    entry = AuditEntry(**row, previous=previous)
    for field in (AuditEntry.before, AuditEntry.after):  # as they will be read
        setattr(entry, field.name, field.python_value(field.db_value(getattr(entry, field.name))))
    entry.hash = entry_hash(entry)
    entry.save(force_insert=True)
    return entry


def move_head(entry: AuditEntry) -> None:
    seal = hash_chain.head_mac(audit_key(), entry.id, entry.hash)
    AuditHead.update(last_id=entry.id, hash=entry.hash, seal=seal).where(AuditHead.id == 1).execute()


def entry_hash(entry: AuditEntry) -> str:
    return hash_chain.row_hash(audit_key(), entry.previous, entry.__data__)


# --- verifying -----------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """`row`: the id of the row at fault; None where it is the head, or a hash that somebody kept."""

    row: int | None
    what: str  # changed, inserted, removed, cut off, gap, head, not found
    message: str


class Report(NamedTuple):
    rows: int
    last_id: int
    head: str  # the hash of the last row
    findings: list[Finding]


def is_intact(entry: AuditEntry) -> bool:
    """Whether the row is as it was written; of its neighbours this says nothing."""
    return hash_chain.constant_time_equal(entry_hash(entry), entry.hash)


def head_is_valid(head: AuditHead) -> bool:
    """Before the first row there is nothing to seal."""
    if (head.last_id, head.hash, head.seal) == (0, START, ""):
        return True
    return hash_chain.constant_time_equal(hash_chain.head_mac(audit_key(), head.last_id, head.hash), head.seal)


def verify_chain(since: int = 0, kept: str | None = None) -> Report:
    """Look at every row from `since` on. `kept`: a hash that somebody noted, which must still be in the list."""
    findings: list[Finding] = []
    before, rows, is_there = AuditEntry(id=0, hash=START), 0, kept in (None, START)
    link_known = since == 0
    head, newest = list_end()
    for entry, after in pair_with_next(load_entries(since, newest)):
        rows += 1
        is_there = is_there or entry.hash == kept
        fault = find_fault(entry, after, before, link_known)
        findings += [fault] if fault else []
        if fault and fault.what == "inserted":
            continue
        # The link to a row that was changed says nothing: its hash may be forged as well.
        before, link_known = entry, not (fault and fault.what == "changed")
    findings += find_end_faults(before, head)
    if not is_there:
        findings.append(Finding(None, "not found", f"no row has the hash {kept}: rows were cut off or replaced"))
    return Report(rows, before.id, before.hash, findings)


def find_fault(entry: AuditEntry, after: AuditEntry | None, before: AuditEntry, link_known: bool) -> Finding | None:
    """What is wrong with a row between its neighbours. `link_known`: the hash of the row before it can be trusted."""
    if not is_intact(entry):
        inserted = inserted_row(entry, after, before) if link_known else None
        return inserted or Finding(entry.id, "changed", f"row {entry.id} was changed: its hash does not hold")
    if link_known and entry.previous != before.hash:
        return removed_rows(before, entry)
    if entry.action == CHAIN_GAP:
        cause = "rows had been cut off or added, or SECRET_KEY had been changed"
        return Finding(entry.id, "gap", f"before row {entry.id} was written, {cause}")
    return None


def inserted_row(entry: AuditEntry, after: AuditEntry | None, before: AuditEntry) -> Finding | None:
    """A finding if a row that is not intact was put between two that belong together, or after the last one."""
    number = entry.id
    if after and after.previous == before.hash and is_intact(after):
        return Finding(number, "inserted", f"row {number} was inserted: the row after it follows the one before it")
    if not after and entry.previous != before.hash:
        return Finding(number, "inserted", f"row {number} was inserted: nothing leads to it")
    return None


def removed_rows(before: AuditEntry, entry: AuditEntry) -> Finding:
    number = entry.id
    numbers = f"{before.id + 1} to {number - 1}" if number - before.id > 2 else str(number - 1)
    missing = f"row {numbers} was removed" if number - before.id > 1 else "what stood between them was removed"
    return Finding(number, "removed", f"{missing}: row {number} does not follow row {before.id}")


def list_end() -> tuple[AuditHead | None, int]:
    """The head and the newest row as they are together: rows that come while others are looked at are left alone."""
    newest = AuditEntry.select(fn.COALESCE(fn.MAX(AuditEntry.id), 0))
    head = AuditHead.select(AuditHead, newest.alias("newest")).where(AuditHead.id == 1).objects().first()
    return (head, head.newest) if head else (None, newest.scalar())


def find_end_faults(last: AuditEntry, head: AuditHead | None) -> Iterator[Finding]:
    if head is None or not head_is_valid(head):
        yield Finding(None, "head", "the head of the list was changed: it cannot tell where the list ends")
    elif head.last_id > last.id:
        numbers = f"{last.id + 1}" if head.last_id == last.id + 1 else f"{last.id + 1} to {head.last_id}"
        yield Finding(last.id + 1, "cut off", f"row {numbers} was cut off the end: the head still knows of it")
    elif head.last_id < last.id or head.hash != last.hash:
        yield Finding(last.id, "inserted", f"row {last.id} was put at the end: the list ended at row {head.last_id}")


def load_entries(since: int, newest: int) -> Iterator[AuditEntry]:
    last = since - 1
    while last < newest:
        batch = (
            AuditEntry.select().where(AuditEntry.id.between(last + 1, newest)).order_by(AuditEntry.id).limit(BATCH_SIZE)
        )
        if not (rows := list(batch)):
            return
        yield from rows
        last = rows[-1].id


def pair_with_next(rows: Iterator[AuditEntry]) -> Iterator[tuple[AuditEntry, AuditEntry | None]]:
    row = next(rows, None)
    while row is not None:
        after = next(rows, None)
        yield row, after
        row = after
