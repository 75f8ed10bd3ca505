"""Write and verify the audit log, a hash chain (`engine.hash_chain`)."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from peewee import fn

from engine import hash_chain
from engine.database import database, on_postgresql
from engine.hash_chain import START
from engine.keys import derive_keys
from engine.models import now
from engine.secret_arguments import mask_names
from models import AuditEntry, AuditHead

#: The action of the row that is written if the end of the log does not match the head.
CHAIN_GAP = "audit.gap"
BATCH_SIZE = 1000

#: Most characters of the JSON of the values before or after.
MAX_FACTS = 10_000


def audit_keys() -> tuple[bytes, ...]:
    """Return the key that signs, then the former keys."""
    return derive_keys(hash_chain.PURPOSE)


# --- writing -------------------------------------------------------------------------------------------------


class Author(Protocol):
    """The columns of an entry about its author."""

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
    """Append an entry with secrets masked. See `append_entries` for when to call it."""
    append_entries(
        actor_kind=author.kind,
        actor=author.name,
        source=author.source,
        action=action,
        target=target,
        before=shorten(mask_names(before)),
        after=shorten(mask_names(after)),
        address=author.address,
    )


def shorten(facts: object) -> object:
    """Return the facts, or the start of their JSON if it is long. Entries cannot be deleted and are listed whole."""
    text = json.dumps(facts, ensure_ascii=False, default=str)
    return facts if len(text) <= MAX_FACTS else {"shortened": text[:MAX_FACTS]}


def append_entries(**columns: object) -> AuditEntry:
    """Append a row in the caller's transaction, or in a new one. Other writers wait for its end.

    Call it last in a transaction, to keep that wait short.
    """
    with database.atomic():
        head = locked_head()
        last = AuditEntry.select().order_by(AuditEntry.id.desc()).first()
        last_link = (last.id, last.hash) if last else (0, START)
        if not head_is_valid(head, last) or last_link != (head.last_id, head.hash):
            ends = {"head": head.last_id, "last_row": last_link[0]}
            facts = {"actor_kind": "cli", "actor": "dewey", "source": "cli", "action": CHAIN_GAP, "after": ends}
            gap = link_entry(max(last_link[0], head.last_id) + 1, last_link[1], facts)
            last_link = (gap.id, gap.hash)
        entry = link_entry(last_link[0] + 1, last_link[1], columns)
        move_head(entry)
    return entry


def check_writable() -> None:
    """Raise the database's error if it accepts no writes."""
    with database.atomic():
        locked_head()


def locked_head() -> AuditHead:
    """Lock and return the head row. A missing one is created for an empty log, so any other log shows a gap."""
    AuditHead.insert(id=1, last_id=0, hash=START, seal="").on_conflict_ignore().execute()
    query = AuditHead.select().where(AuditHead.id == 1)
    head: AuditHead = (query.for_update() if on_postgresql() else query).get()
    return head


def link_entry(number: int, previous: str, columns: dict[str, Any]) -> AuditEntry:
    row: dict[str, Any] = dict.fromkeys(hash_chain.COLUMNS) | columns | {"id": number, "at": now()}
    entry = AuditEntry(**row, previous=previous)
    for field in (AuditEntry.before, AuditEntry.after):  # hash the values as the database returns them
        setattr(entry, field.name, field.python_value(field.db_value(getattr(entry, field.name))))
    entry.hash = entry_hash(audit_keys()[0], entry)
    entry.save(force_insert=True)
    return entry


def move_head(entry: AuditEntry) -> None:
    seal = hash_chain.head_mac(audit_keys()[0], entry.id, entry.hash)
    AuditHead.update(last_id=entry.id, hash=entry.hash, seal=seal).where(AuditHead.id == 1).execute()


def entry_hash(key: bytes, entry: AuditEntry) -> str:
    return hash_chain.row_hash(key, entry.previous, entry.__data__)


# --- verifying -----------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """`row`: the id of the faulty row. None if the head or a stored hash is at fault."""

    row: int | None
    what: str  # changed, inserted, removed, cut off, gap, head, not found
    message: str


class Report(NamedTuple):
    rows: int
    last_id: int
    head: str  # the hash of the last row
    former_key_rows: int  # rows that a key of SECRET_KEY_OLD signed
    findings: list[Finding]


def is_intact(entry: AuditEntry) -> bool:
    """True if the hash of the row matches. Its neighbours are not checked."""
    return entry_key(entry) is not None


def entry_key(entry: AuditEntry) -> int | None:
    """Return the position in `audit_keys` of the key that signed the row. None if its hash is wrong."""
    return find_equal(entry.hash, (entry_hash(key, entry) for key in audit_keys()))


def head_key(head: AuditHead) -> int | None:
    """Return the position in `audit_keys` of the key that sealed the head. None if its seal is wrong."""
    return find_equal(head.seal, (hash_chain.head_mac(key, head.last_id, head.hash) for key in audit_keys()))


def find_equal(stored: str, digests: Iterator[str]) -> int | None:
    equal = (number for number, digest in enumerate(digests) if hash_chain.constant_time_equal(digest, stored))
    return next(equal, None)


def head_is_valid(head: AuditHead, last: AuditEntry | None) -> bool:
    """True if the seal matches, or if the log is empty. A former key may seal only the end of a row of its own."""
    if (head.last_id, head.hash, head.seal) == (0, START, ""):
        return True
    key = head_key(head)
    return key == 0 or (key is not None and last is not None and last.id > 0 and entry_key(last) == key)


class KeyOrder:
    """The keys along the log. A former key signs no row after its successor has signed one."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.replaced: set[int] = set()

    def accept(self, key: int) -> bool:
        if key in self.replaced:
            return False
        if key == 0:
            self.replaced = set(range(1, len(audit_keys())))
        elif self.last and self.last != key:
            self.replaced.add(self.last)
        self.last = key
        return True


def verify_chain(since: int = 0, kept: str | None = None) -> Report:
    """Check every row from `since`. `kept`: a hash printed earlier that the log must still contain."""
    findings: list[Finding] = []
    before, rows, is_there = AuditEntry(id=0, hash=START), 0, kept in (None, START)
    link_known, order, former = since == 0, KeyOrder(), 0
    head, newest = list_end()
    for entry, after in pair_with_next(load_entries(since, newest)):
        rows += 1
        is_there = is_there or entry.hash == kept
        key = entry_key(entry)
        fault = find_key_fault(entry, key, order) or find_fault(entry, key is not None, after, before, link_known)
        former += bool(key)
        findings += [fault] if fault else []
        if fault and fault.what == "inserted":
            continue
        # The hash of a changed row may be forged, so the next link proves nothing.
        before, link_known = entry, not (fault and fault.what == "changed")
    findings += find_end_faults(before, head)
    if not is_there:
        findings.append(Finding(None, "not found", f"no row has the hash {kept}: rows were removed or replaced"))
    return Report(rows, before.id, before.hash, former, findings)


def find_key_fault(entry: AuditEntry, key: int | None, order: KeyOrder) -> Finding | None:
    if key is None or order.accept(key):
        return None
    message = f"row {entry.id} was changed: a former key signed it after its successor was in use"
    return Finding(entry.id, "changed", message)


def find_fault(
    entry: AuditEntry, intact: bool, after: AuditEntry | None, before: AuditEntry, link_known: bool
) -> Finding | None:
    """Return the fault of a row between its neighbours. `link_known`: the hash of the previous row is trusted."""
    if not intact:
        inserted = inserted_row(entry, after, before) if link_known else None
        return inserted or Finding(entry.id, "changed", f"row {entry.id} was changed: its hash does not match")
    if link_known and entry.previous != before.hash:
        return removed_rows(before, entry)
    if entry.action == CHAIN_GAP:
        cause = "rows were removed or added, or SECRET_KEY was changed without SECRET_KEY_OLD"
        return Finding(entry.id, "gap", f"before row {entry.id} was written, {cause}")
    return None


def inserted_row(entry: AuditEntry, after: AuditEntry | None, before: AuditEntry) -> Finding | None:
    """Return a finding if a faulty row was inserted between two linked rows, or after the last one."""
    number = entry.id
    if after and after.previous == before.hash and is_intact(after):
        return Finding(number, "inserted", f"row {number} was inserted: the next row follows the previous one")
    if not after and entry.previous != before.hash:
        return Finding(number, "inserted", f"row {number} was inserted: it does not follow the previous row")
    return None


def removed_rows(before: AuditEntry, entry: AuditEntry) -> Finding:
    number = entry.id
    numbers = f"{before.id + 1} to {number - 1}" if number - before.id > 2 else str(number - 1)
    missing = f"row {numbers} was removed" if number - before.id > 1 else "rows between them were removed"
    return Finding(number, "removed", f"{missing}: row {number} does not follow row {before.id}")


def list_end() -> tuple[AuditHead | None, int]:
    """Return the head and the newest row id from one snapshot. Rows written during the check are not read."""
    newest = AuditEntry.select(fn.COALESCE(fn.MAX(AuditEntry.id), 0))
    head = AuditHead.select(AuditHead, newest.alias("newest")).where(AuditHead.id == 1).objects().first()
    return (head, head.newest) if head else (None, newest.scalar())


def find_end_faults(last: AuditEntry, head: AuditHead | None) -> Iterator[Finding]:
    if head is None or not head_is_valid(head, last):
        yield Finding(None, "head", "the head was changed: the end of the log is unknown")
    elif head.last_id > last.id:
        numbers = f"{last.id + 1}" if head.last_id == last.id + 1 else f"{last.id + 1} to {head.last_id}"
        yield Finding(last.id + 1, "cut off", f"row {numbers} was removed from the end: the head still names it")
    elif head.last_id < last.id or head.hash != last.hash:
        yield Finding(last.id, "inserted", f"row {last.id} was added at the end: the log ended at row {head.last_id}")


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
