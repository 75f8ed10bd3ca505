"""The runs of a filter as a file, however many they are: read page by page, and sent as they are read."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from flask import Response, stream_with_context

from admin.access import needs
from admin.console import blueprint
from admin.run_filter import RunFilter
from engine.find import find_all
from engine.records import Run, as_json, now

PAGE = 1000

COLUMNS = (
    "id", "task", "queue", "state", "asked_by_kind", "asked_by", "enqueued_at", "due_at", "started_at", "ended_at",
    "wait_ms", "run_ms", "attempts", "deliveries", "priority", "retries", "worker", "code_version", "parent_id", "args",
    "kwargs", "result", "error",
)  # fmt: skip

#: What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@blueprint.get("/runs.csv")
@needs("viewer")
def runs_csv() -> Response:
    return download("csv", "text/csv; charset=utf-8", csv_of)


@blueprint.get("/runs.json")
@needs("viewer")
def runs_json() -> Response:
    return download("json", "application/json", json_of)


def download(ending: str, content_type: str, text_of: Any) -> Response:
    asked = RunFilter()
    pages = find_all(asked.found, PAGE)
    # The first page is read before the answer begins, so that trouble with the database still has a status.
    pages = chain([next(pages, [])], pages)
    response = Response(stream_with_context(text_of(pages)), content_type=content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="runs-{now():%Y%m%d-%H%M%S}.{ending}"'
    return response


def csv_of(pages: Iterator[list[Run]]) -> Iterator[str]:
    return csv_text(COLUMNS, ([columns_of(run).values() for run in runs] for runs in pages))


def csv_text(columns: Sequence[str], pages: Iterable[Iterable[Iterable[Any]]]) -> Iterator[str]:
    """The text of a file with these columns, page by page."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for rows in pages:
        writer.writerows([cell(value) for value in row] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def columns_of(run: Run) -> dict[str, Any]:
    values = as_json(run)
    return {name: values[name] for name in COLUMNS}


def cell(value: Any) -> Any:
    """As a spreadsheet shows it and never runs it."""
    if isinstance(value, dict | list | bool):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def json_of(pages: Iterator[list[Run]]) -> Iterator[str]:
    yield '{"runs": ['
    separator = "\n"
    for runs in pages:
        if runs:
            yield separator + ",\n".join(json.dumps(columns_of(run), ensure_ascii=False, default=str) for run in runs)
            separator = ",\n"
    yield "\n]}\n"
