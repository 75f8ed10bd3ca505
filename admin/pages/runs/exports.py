"""Export of filtered runs as CSV or JSON, read and streamed page by page."""

import json
from collections.abc import Callable, Iterator

from flask import Response

from admin.auth.access import requires_role
from admin.display.capped_pages import CappedPages
from admin.display.csv_text import csv_lines
from admin.pages.blueprint import blueprint
from admin.pages.downloads import stream_download
from admin.search.run_filter import RunFilter
from engine.models import Run, as_json, now
from engine.search.run_search import all_pages

PAGE = 1000

COLUMNS = (
    "id", "task", "queue", "state", "asked_by_kind", "asked_by", "enqueued_at", "due_at", "started_at", "ended_at",
    "wait_ms", "run_ms", "attempts", "deliveries", "priority", "retries", "worker", "code_version", "parent_id", "args",
    "kwargs", "result", "error",
)  # fmt: skip


@blueprint.get("/runs.csv")
@requires_role("viewer")
def runs_csv() -> Response:
    return download("csv", "text/csv; charset=utf-8", runs_to_csv)


@blueprint.get("/runs.json")
@requires_role("viewer")
def runs_json() -> Response:
    return download("json", "application/json", runs_to_json)


def download(ending: str, content_type: str, text_of: Callable[[Iterator[list[Run]]], Iterator[str]]) -> Response:
    name = f"runs-{now():%Y%m%d-%H%M%S}.{ending}"
    return stream_download(name, content_type, all_pages(RunFilter().run_query, PAGE), text_of)


def runs_to_csv(pages: Iterator[list[Run]]) -> Iterator[str]:
    return csv_lines(COLUMNS, CappedPages(pages).cells(lambda run: csv_row(run).values()))


def csv_row(run: Run) -> dict[str, object]:
    values = as_json(run)
    return {name: values[name] for name in COLUMNS}


def runs_to_json(pages: Iterator[list[Run]]) -> Iterator[str]:
    """Yield the text. A file that ends at the limit of rows has `complete`: false."""
    capped = CappedPages(pages)
    yield '{"runs": ['
    separator = "\n"
    for runs in capped:
        if runs:
            yield separator + ",\n".join(json.dumps(csv_row(run), ensure_ascii=False, default=str) for run in runs)
            separator = ",\n"
    yield '\n], "complete": false}\n' if capped.is_cut else "\n]}\n"
