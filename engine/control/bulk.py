"""Bulk commands on many runs. The items are stored first, then a task processes them.

The items must be the runs that the user saw. A guarded UPDATE claims each item, so the task is safe to run twice.
After a crash the next execution takes over claimed items. An item whose run already has the requested state is done.
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
from engine.models import ENDED, BulkAction, BulkActionItem, Run, State, now
from engine.queues.queue import Queues

VERBS = ("retry", "cancel", "delete")
BATCH_SIZE = 100

#: Largest number of runs in one command.
MAX_ITEMS = 100_000

#: How long a command and its items are kept.
RETENTION = timedelta(days=30)


class SelectionChanged(Exception):
    def __init__(self, count: int) -> None:
        super().__init__("the runs that match have changed")
        self.count = count


class TooManyItems(Exception):
    """More runs than `MAX_ITEMS`."""


class Preflight(NamedTuple):
    total: int
    states: Counter[str]
    fingerprint: str
    sample: list[Run]


def by_ids(run_ids: Iterable[str]) -> "ModelSelect[Run]":
    return Run.select(Run.id, Run.state, Run.enqueued_at).where(Run.id.in_(list(run_ids)))


def preflight(runs: "ModelSelect[Run]", sample: int) -> Preflight:
    rows = list(database.execute(runs.limit(MAX_ITEMS + 1)))
    if len(rows) > MAX_ITEMS:
        raise TooManyItems
    newest = [run_id for run_id, _, _ in nlargest(sample, rows, key=itemgetter(2, 0))]
    examples = Run.select().where(Run.id.in_(newest)).order_by(Run.enqueued_at.desc(), Run.id.desc())
    states = Counter(state for _, state, _ in rows)
    return Preflight(len(rows), states, fingerprint(run_id for run_id, _, _ in rows), list(examples))


def fingerprint(run_ids: Iterable[str]) -> str:
    return blake2b("\n".join(sorted(run_ids)).encode(), digest_size=12).hexdigest()


def create(verb: str, runs: "ModelSelect[Run]", shown: str, by: Requester, search: str | None = None) -> BulkAction:
    """Store the command and its items, oldest run first. Raises SelectionChanged and TooManyItems.

    `shown` is the fingerprint of the runs that the user saw.
    """
    with database.atomic():
        bulk = BulkAction.create(
            verb=verb, search=search, asked_by_kind=by.kind, asked_by=by.name, created_at=now(), total=0
        )
        number = fn.ROW_NUMBER().over(order_by=[Run.enqueued_at, Run.id])
        items = runs.select(Value(bulk.id), number, Run.id, Value("waiting")).limit(MAX_ITEMS + 1)
        BulkActionItem.insert_from(
            items, [BulkActionItem.bulk_id, BulkActionItem.number, BulkActionItem.run_id, BulkActionItem.state]
        ).execute()
        ids = [
            run_id for (run_id,) in database.execute(BulkActionItem.select(BulkActionItem.run_id).where(items_of(bulk)))
        ]
        if len(ids) > MAX_ITEMS:
            raise TooManyItems
        if fingerprint(ids) != shown:
            raise SelectionChanged(len(ids))
        bulk.total = len(ids)
        bulk.save(only=[BulkAction.total])
    return bulk


def set_run(bulk_id: int, run_id: str) -> None:
    BulkAction.update(run_id=run_id).where(BulkAction.id == bulk_id).execute()


def undo(bulk_id: int) -> None:
    with database.atomic():
        BulkActionItem.delete().where(BulkActionItem.bulk_id == bulk_id).execute()
        BulkAction.delete().where(BulkAction.id == bulk_id).execute()


def items_of(bulk: BulkAction) -> Expression:
    return BulkActionItem.bulk_id == bulk.id


def request_stop(bulk_id: int, by: Requester) -> bool:
    is_open = (BulkAction.id == bulk_id) & BulkAction.stopped_at.is_null() & BulkAction.ended_at.is_null()
    return bool(BulkAction.update(stopped_at=now(), stopped_by=by.name).where(is_open).execute())


# --- working it off ------------------------------------------------------------------------------------------

#: Carries out a command on these runs. Returns reasons by run, as `engine.control.batch` does.
Handler = Callable[[Queues, list[str], Requester], dict[str, str]]
HANDLERS: dict[str, Handler] = {"retry": batch.retry_runs, "cancel": batch.cancel_runs, "delete": batch.delete_runs}


def process(
    queues: Queues, bulk_id: int, on_progress: Callable[[int, int], object] = lambda done, total: None
) -> dict[str, int]:
    bulk, claim = BulkAction.get_by_id(bulk_id), uuid4().hex
    batch.flush_events(queues)
    begun_before = reset_claimed(bulk, claim)
    while items := begun_before or claim_next(bulk, claim):
        asker = Requester(bulk.asked_by_kind, bulk.asked_by)
        reasons = HANDLERS[bulk.verb](queues, [item.run_id for item in items], asker)
        if begun_before:
            reasons = {run_id: reason for run_id, reason in reasons.items() if not is_done(bulk.verb, run_id)}
        finish_batch(bulk, claim, items, reasons)
        bulk = BulkAction.get_by_id(bulk_id)
        on_progress(bulk.done + bulk.refused, bulk.total)
        begun_before = []
    with database.atomic():
        if bulk.stopped_at:
            BulkActionItem.update(state="skipped").where(items_of(bulk) & (BulkActionItem.state == "waiting")).execute()
        BulkAction.update(ended_at=now()).where((BulkAction.id == bulk_id) & BulkAction.ended_at.is_null()).execute()
    return {"done": bulk.done, "refused": bulk.refused, "total": bulk.total}


def reset_claimed(bulk: BulkAction, claim: str) -> list[BulkActionItem]:
    """Take over the items that an earlier, interrupted execution had claimed but not finished."""
    BulkActionItem.update(claim=claim).where(items_of(bulk) & (BulkActionItem.state == "doing")).execute()
    return own_claims(bulk, claim)


def claim_next(bulk: BulkAction, claim: str) -> list[BulkActionItem]:
    if bulk.stopped_at:
        return []
    waiting = items_of(bulk) & (BulkActionItem.state == "waiting")
    numbers = (
        BulkActionItem.select(BulkActionItem.number).where(waiting).order_by(BulkActionItem.number).limit(BATCH_SIZE)
    )
    BulkActionItem.update(state="doing", claim=claim).where(waiting & BulkActionItem.number.in_(numbers)).execute()
    return own_claims(bulk, claim)


def own_claims(bulk: BulkAction, claim: str) -> list[BulkActionItem]:
    doing = items_of(bulk) & (BulkActionItem.state == "doing") & (BulkActionItem.claim == claim)
    return list(BulkActionItem.select().where(doing).order_by(BulkActionItem.number))


def finish_batch(bulk: BulkAction, claim: str, items: list[BulkActionItem], reasons: dict[str, str]) -> None:
    with database.atomic():
        counts: Counter[str] = Counter()
        for reason in {None, *reasons.values()}:
            numbers = [item.number for item in items if reasons.get(item.run_id) == reason]
            state = "done" if reason in (None, batch.STOP_REQUESTED) else "refused"
            claimed = items_of(bulk) & BulkActionItem.number.in_(numbers) & (BulkActionItem.claim == claim)
            counts[state] += (
                BulkActionItem.update(state=state, reason=reason).where(claimed).execute() if numbers else 0
            )
        BulkAction.update(done=BulkAction.done + counts["done"], refused=BulkAction.refused + counts["refused"]).where(
            BulkAction.id == bulk.id
        ).execute()


def is_done(verb: str, run_id: str) -> bool:
    run = Run.get_or_none(Run.id == run_id)
    if verb == "delete":
        return run is None
    return run is not None and (run.state == State.CANCELLED if verb == "cancel" else run.state not in ENDED)


def delete_older(before: datetime) -> None:
    old = BulkAction.select(BulkAction.id).where(BulkAction.created_at < before)
    BulkActionItem.delete().where(BulkActionItem.bulk_id.in_(old)).execute()
    BulkAction.delete().where(BulkAction.created_at < before).execute()
