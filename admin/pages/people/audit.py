"""Audit log: the filtered list, one entry, and the CSV export."""

import json
from collections.abc import Iterator
from uuid import UUID

from flask import Response, abort, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from peewee import ModelSelect

from admin.audit_log import is_intact
from admin.auth.access import requires_role
from admin.display.capped_pages import CappedPages
from admin.display.csv_text import csv_lines
from admin.forms import datetimes
from admin.forms.list_filters import ListFilters, link, read_text
from admin.operations.registry import ACTIONS
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, paginate
from admin.pages.downloads import stream_download
from engine.models import as_json as row_as_json
from engine.models import now
from engine.search import pagination
from models import AuditEntry, Operator, Token

SOURCES = ("all", "web", "api", "cli")

#: Audit entries that are not operations.
OTHER_ACTORS = ("denied", "sign_in", "sign_in.failed", "sign_out")

COLUMNS = (
    "id", "at", "actor_kind", "actor", "source", "address", "action", "target", "before", "after", "previous", "hash",
)  # fmt: skip
BATCH_SIZE = 1000


class BySource(ListFilters):
    """Filters whose tabs are the sources of actions."""

    tab = "source"


@blueprint.get("/audit")
@requires_role("viewer")
def audit() -> ResponseReturnValue:
    list_filters = filters()
    page = paginate(filtered_entries(list_filters), AuditEntry.at, AuditEntry.id)
    return live_refresh.render_page(
        "people/audit.html",
        filters=list_filters,
        tabs=tab_labels(),
        rows=[(entry, is_intact(entry)) for entry in page.rows],
        older=page.older,
        actions=sorted({*ACTIONS, *OTHER_ACTORS, list_filters.action} - {""}),
        brief=short_text,
        zone=datetimes.zone_name(),
        csv_url=url_for("pages.audit_csv") + (f"?{list_filters.query}" if list_filters.query else ""),
    )


def filters() -> ListFilters:
    names = ("actor", "action", "target", "from", "to")
    return BySource("pages.audit", SOURCES, **{name: read_text(name) for name in names})


def filtered_entries(list_filters: ListFilters) -> "ModelSelect[AuditEntry]":
    conditions = [
        getattr(AuditEntry, name) == list_filters.values[name]
        for name in ("actor", "action", "target")
        if list_filters.values[name]
    ]
    if list_filters.state != "all":
        conditions.append(AuditEntry.source == list_filters.state)
    if since := datetimes.parse_local_datetime("from", list_filters.values["from"]):
        conditions.append(AuditEntry.at >= since)
    if until := datetimes.parse_local_datetime("to", list_filters.values["to"]):
        conditions.append(AuditEntry.at < until)
    query = AuditEntry.select()
    return query.where(*conditions) if conditions else query


def tab_labels() -> dict[str, str]:
    return {"all": _("All"), "web": _("Browser"), "api": _("API"), "cli": _("Terminal")}


def short_text(entry: AuditEntry) -> str:
    """Return the changed values of an entry in one line."""
    after = entry.after if entry.after is not None else entry.before
    if not isinstance(after, dict):
        return "" if after is None else value_text(after)
    return ", ".join(f"{name}: {value_text(value)}" for name, value in after.items() if value is not None)


def value_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- one of them ---------------------------------------------------------------------------------------------


@blueprint.get("/audit/<int:entry_id>")
@requires_role("viewer")
def audit_entry(entry_id: int) -> ResponseReturnValue:
    entry = AuditEntry.get_or_none(AuditEntry.id == entry_id) or abort(
        404, _("There is no audit entry with this number.")
    )
    before, after = (value if isinstance(value, dict) else {"": value} for value in (entry.before, entry.after))
    names = [name for name in {**before, **after} if before.get(name) is not None or after.get(name) is not None]
    return live_refresh.render_page(
        "people/audit_entry.html",
        entry=entry,
        holds=is_intact(entry),
        changes=[(name, format_cell(before, name), format_cell(after, name)) for name in names],
        target_url=target_url(entry),
        actor_url=actor_url(entry),
    )


def format_cell(values: dict[str, object], name: str) -> str | None:
    value = values.get(name)
    return None if value is None else value_text(value)


#: Noun of an action → the page of its target, and the name of the URL parameter.
PAGES = {
    "errors": ("pages.error", "group_id"), "queues": ("pages.queue", "name"), "tasks": ("pages.task", "name"),
    "schedule": ("pages.schedule_of", "task"), "workers": ("pages.worker", "worker_id"),
    "runs": ("pages.run", "run_id"), "dead": ("pages.run", "run_id"), "bulk": ("pages.bulk_one", "bulk_id"),
}  # fmt: skip


def target_url(entry: AuditEntry) -> str | None:
    noun, target = entry.action.partition(".")[0], entry.target
    if not target or noun not in PAGES:
        return None
    if entry.action == "tasks.run" or noun in ("runs", "dead"):
        noun = "runs" if is_uuid(target) else ""
    if noun == "bulk" and not target.isdigit():
        return None
    endpoint, name = PAGES.get(noun, ("", ""))
    return link(endpoint, {name: target}) if endpoint else None


def is_uuid(value: str) -> bool:
    try:
        return bool(UUID(value))
    except ValueError:
        return False


def actor_url(entry: AuditEntry) -> str | None:
    if entry.actor_kind == "operator" and (person := Operator.get_or_none(Operator.email == entry.actor)):
        return url_for("pages.operator", operator_id=person.id)
    if entry.actor_kind == "token" and Token.select().where(Token.name == entry.actor).exists():
        return url_for("pages.tokens")
    return None


# --- as a file -----------------------------------------------------------------------------------------------


@blueprint.get("/audit.csv")
@requires_role("viewer")
def audit_csv() -> Response:
    name = f"audit-{now():%Y%m%d-%H%M%S}.csv"
    return stream_download(name, "text/csv; charset=utf-8", entry_pages(filtered_entries(filters())), entries_to_csv)


def entries_to_csv(pages: Iterator[list[AuditEntry]]) -> Iterator[str]:
    return csv_lines(COLUMNS, CappedPages(pages).cells(csv_row))


def csv_row(entry: AuditEntry) -> list[object]:
    values = row_as_json(entry)
    return [values[name] for name in COLUMNS]


def entry_pages(query: "ModelSelect[AuditEntry]") -> Iterator[list[AuditEntry]]:
    before: str | None = ""
    while before is not None:
        page = pagination.fetch_page(query, AuditEntry.at, AuditEntry.id, BATCH_SIZE, before)
        yield page.rows
        before = page.older
