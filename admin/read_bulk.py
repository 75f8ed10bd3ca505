"""What programs ask about bulk actions: the preflight that each needs, their accounts; and the saved views."""

from typing import Annotated, Any, Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _

from admin import views
from admin.bulk_deeds import chosen
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from engine import bulk
from engine.records import Bulk, BulkItem, Run
from models import SavedView

SAMPLE = 10


class Preflight(NamedTuple):
    """What a command would be about. `fingerprint` is to be sent with it, and stands for exactly these runs."""

    total: int
    states: dict[str, int]
    fingerprint: str
    sample: list[Run]


class Bulks(NamedTuple):
    bulks: list[Bulk]
    next: str | None


class BulkItems(NamedTuple):
    items: list[BulkItem]
    next: str | None


class Views(NamedTuple):
    views: list[SavedView]


@read("bulk.preflight", "/bulk/preflight", "operator")
def preflight(
    search: Annotated[str, {"maxLength": 500, "description": "Which runs, as in the search box."}] = "",
    run: Annotated[list[str], {"description": "Ids of runs, instead of a search."}] = (),  # type: ignore[assignment]
) -> Preflight:
    """Which runs a bulk action would be about: how many, in which states, and the newest of them."""
    try:
        return Preflight(*bulk.preflight(chosen(search, list(run)), SAMPLE))
    except bulk.TooMany as error:
        raise BadInput("search", _("at most %(most)s runs are taken at once", most=bulk.MOST)) from error


@read("bulk.list", "/bulk", columns=("id", "verb", "total", "done", "refused", "asked_by", "created_at", "ended_at"))
def bulks(before: Cursor = "", limit: Limit = 30) -> Bulks:
    """Bulk actions, newest first."""
    found = Bulk.select().order_by(Bulk.id.desc()).limit(limit + 1)
    rows = list(found.where(Bulk.id < number_of("before", before)) if before else found)
    return Bulks(rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None)


@read("bulk.show", "/bulk/{bulk_id}")
def bulk_one(bulk_id: int) -> Bulk:
    """The account of one bulk action."""
    return known(bulk_id)


@read("bulk.items", "/bulk/{bulk_id}/items", columns=("number", "run_id", "state", "reason"))
def bulk_items(
    bulk_id: int,
    state: Literal["", "waiting", "doing", "done", "refused", "skipped"] = "",
    after: Cursor = "",
    limit: Limit = 30,
) -> BulkItems:
    """What became of each run of a bulk action."""
    found = BulkItem.select().where(BulkItem.bulk_id == known(bulk_id).id)
    found = found.where(BulkItem.state == state) if state else found
    found = found.where(BulkItem.number > number_of("after", after)) if after else found
    rows = list(found.order_by(BulkItem.number).limit(limit + 1))
    return BulkItems(rows[:limit], str(rows[limit - 1].number) if len(rows) > limit else None)


@read("views.list", "/views", columns=("id", "name", "search", "shared", "owner"))
def saved_views() -> Views:
    """The views that one may use: one's own, and those that are shared."""
    return Views(views.visible())


def known(bulk_id: int) -> Bulk:
    found: Any = Bulk.get_or_none(Bulk.id == bulk_id)
    return found or abort(404, _("There is no such bulk action, or it is too long ago."))


def number_of(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInput(name, _("this is no place in the list"))
    return int(text)
