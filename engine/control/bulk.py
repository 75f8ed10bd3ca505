"""One command for many runs: what it is about is written down item by item, then worked off by a task.

The items are chosen once, when the command is given, and must be the very runs that the asker was shown. Each is
claimed by a guarded update, so the task is safe to run twice; what an execution had begun when it was cut off is taken
back by the next one, for which an item that has come to what was asked for is done.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from heapq import nlargest
from operator import itemgetter
from typing import NamedTuple
from uuid import uuid4

from peewee import Expression, ModelSelect, Value, fn

from engine.broker.messages import Requester
from engine.control import batch
from engine.database import database
from engine.models import ENDED, Bulk, BulkItem, Run, State, now
from engine.queues.queue import Queues

VERBS = ("retry", "cancel", "delete")
BATCH = 100

#: More runs than this are not taken at once.
MOST = 100_000

#: How long the account of a command is kept.
KEPT = timedelta(days=30)


class Changed(Exception):
    """The runs are not those that were shown any more. `found`: how many they are now."""

    def __init__(self, found: int) -> None:
        super().__init__("the runs that match have changed")
        self.found = found


class TooMany(Exception):
    """More than `MOST`."""


class Preflight(NamedTuple):
    """What a command would be about. `fingerprint` stands for exactly these runs."""

    total: int
    states: Counter[str]
    fingerprint: str
    sample: list[Run]


def ticked(run_ids: Iterable[str]) -> "ModelSelect[Run]":
    """The query for runs that were named one by one."""
    return Run.select(Run.id, Run.state, Run.enqueued_at).where(Run.id.in_(list(run_ids)))


def preflight(runs: "ModelSelect[Run]", sample: int) -> Preflight:
    """Look at the runs of a query for `id`, `state` and `enqueued_at`, which is asked once. Raises TooMany."""
    rows = list(database.execute(runs.limit(MOST + 1)))
    if len(rows) > MOST:
        raise TooMany
    newest = [run_id for run_id, _, _ in nlargest(sample, rows, key=itemgetter(2, 0))]
    examples = Run.select().where(Run.id.in_(newest)).order_by(Run.enqueued_at.desc(), Run.id.desc())
    states = Counter(state for _, state, _ in rows)
    return Preflight(len(rows), states, fingerprint(run_id for run_id, _, _ in rows), list(examples))


def fingerprint(run_ids: Iterable[str]) -> str:
    return blake2b("\n".join(sorted(run_ids)).encode(), digest_size=12).hexdigest()


def begin(verb: str, runs: "ModelSelect[Run]", shown: str, by: Requester, search: str | None = None) -> Bulk:
    """Write down the command and its items, oldest run first. Raises Changed and TooMany, and then nothing is written.

    `shown` is the fingerprint of the runs that the asker saw.
    """
    with database.atomic():
        bulk = Bulk.create(verb=verb, search=search, asked_by_kind=by.kind, asked_by=by.name, created_at=now(), total=0)
        number = fn.ROW_NUMBER().over(order_by=[Run.enqueued_at, Run.id])
        items = runs.select(Value(bulk.id), number, Run.id, Value("waiting")).limit(MOST + 1)
        BulkItem.insert_from(items, [BulkItem.bulk_id, BulkItem.number, BulkItem.run_id, BulkItem.state]).execute()
        ids = [run_id for (run_id,) in database.execute(BulkItem.select(BulkItem.run_id).where(of(bulk)))]
        if len(ids) > MOST:
            raise TooMany
        if fingerprint(ids) != shown:
            raise Changed(len(ids))
        bulk.total = len(ids)
        bulk.save(only=[Bulk.total])
    return bulk


def carried_by(bulk_id: int, run_id: str) -> None:
    """Note the run that works it off."""
    Bulk.update(run_id=run_id).where(Bulk.id == bulk_id).execute()


def withdraw(bulk_id: int) -> None:
    """Undo `begin`, where nobody can be asked to work it off."""
    with database.atomic():
        BulkItem.delete().where(BulkItem.bulk_id == bulk_id).execute()
        Bulk.delete().where(Bulk.id == bulk_id).execute()


def of(bulk: Bulk) -> Expression:
    return BulkItem.bulk_id == bulk.id


def stop(bulk_id: int, by: Requester) -> bool:
    """Leave what has not been begun. Returns False where there is nothing to stop."""
    is_open = (Bulk.id == bulk_id) & Bulk.stopped_at.is_null() & Bulk.ended_at.is_null()
    return bool(Bulk.update(stopped_at=now(), stopped_by=by.name).where(is_open).execute())


# --- working it off ------------------------------------------------------------------------------------------

#: Carries out a command on these runs; returns the reasons, by run, as `engine.control.batch` does.
Handler = Callable[[Queues, list[str], Requester], dict[str, str]]
HANDLERS: dict[str, Handler] = {"retry": batch.retry, "cancel": batch.cancel, "delete": batch.delete}


def work_off(
    queues: Queues, bulk_id: int, on_progress: Callable[[int, int], object] = lambda done, total: None
) -> dict[str, int]:
    """Go through what is left of the items, a batch at a time. Returns how many are done and refused in all."""
    bulk, claim = Bulk.get_by_id(bulk_id), uuid4().hex
    batch.write_down(queues)
    begun_before = take_back(bulk, claim)
    while items := begun_before or claim_next(bulk, claim):
        asker = Requester(bulk.asked_by_kind, bulk.asked_by)
        reasons = HANDLERS[bulk.verb](queues, [item.run_id for item in items], asker)
        if begun_before:
            reasons = {run_id: reason for run_id, reason in reasons.items() if not is_done(bulk.verb, run_id)}
        finish_batch(bulk, claim, items, reasons)
        bulk = Bulk.get_by_id(bulk_id)
        on_progress(bulk.done + bulk.refused, bulk.total)
        begun_before = []
    with database.atomic():
        if bulk.stopped_at:
            BulkItem.update(state="skipped").where(of(bulk) & (BulkItem.state == "waiting")).execute()
        Bulk.update(ended_at=now()).where((Bulk.id == bulk_id) & Bulk.ended_at.is_null()).execute()
    return {"done": bulk.done, "refused": bulk.refused, "total": bulk.total}


def take_back(bulk: Bulk, claim: str) -> list[BulkItem]:
    """What an execution before this one had begun and not concluded."""
    BulkItem.update(claim=claim).where(of(bulk) & (BulkItem.state == "doing")).execute()
    return own_claims(bulk, claim)


def claim_next(bulk: Bulk, claim: str) -> list[BulkItem]:
    if bulk.stopped_at:
        return []
    waiting = of(bulk) & (BulkItem.state == "waiting")
    numbers = BulkItem.select(BulkItem.number).where(waiting).order_by(BulkItem.number).limit(BATCH)
    BulkItem.update(state="doing", claim=claim).where(waiting & BulkItem.number.in_(numbers)).execute()
    return own_claims(bulk, claim)


def own_claims(bulk: Bulk, claim: str) -> list[BulkItem]:
    doing = of(bulk) & (BulkItem.state == "doing") & (BulkItem.claim == claim)
    return list(BulkItem.select().where(doing).order_by(BulkItem.number))


def finish_batch(bulk: Bulk, claim: str, items: list[BulkItem], reasons: dict[str, str]) -> None:
    """Write down what came of each, unless another execution has taken it over, and count it."""
    with database.atomic():
        counts: Counter[str] = Counter()
        for reason in {None, *reasons.values()}:
            numbers = [item.number for item in items if reasons.get(item.run_id) == reason]
            state = "done" if reason in (None, batch.ASKED_TO_STOP) else "refused"
            claimed = of(bulk) & BulkItem.number.in_(numbers) & (BulkItem.claim == claim)
            counts[state] += BulkItem.update(state=state, reason=reason).where(claimed).execute() if numbers else 0
        Bulk.update(done=Bulk.done + counts["done"], refused=Bulk.refused + counts["refused"]).where(
            Bulk.id == bulk.id
        ).execute()


def is_done(verb: str, run_id: str) -> bool:
    """Whether the run is as the command would have left it."""
    run = Run.get_or_none(Run.id == run_id)
    if verb == "delete":
        return run is None
    return run is not None and (run.state == State.CANCELLED if verb == "cancel" else run.state not in ENDED)


def forget(before: datetime) -> None:
    """Remove the account of commands given before this."""
    old = Bulk.select(Bulk.id).where(Bulk.created_at < before)
    BulkItem.delete().where(BulkItem.bulk_id.in_(old)).execute()
    Bulk.delete().where(Bulk.created_at < before).execute()
