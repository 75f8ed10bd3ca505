"""Exports that are streamed while they are read from the database. They occupy a thread, so their number is limited."""

import time
import weakref
from collections.abc import Callable, Iterator
from itertools import chain
from threading import BoundedSemaphore
from typing import TypeVar

from flask import Response, stream_with_context
from flask_babel import gettext as _
from werkzeug.exceptions import ServiceUnavailable

from admin import EXPORTS_AT_ONCE
from admin.problems import RETRY_AFTER
from admin.server.pace import SlowClient

#: Longest time for an export, in seconds. The web server ends it earlier if the client reads too slowly.
EXPORT_SECONDS = 600.0

Row = TypeVar("Row")

exports = BoundedSemaphore(EXPORTS_AT_ONCE)


def stream_download(
    name: str,
    content_type: str,
    pages: Iterator[list[Row]],
    text_of: Callable[[Iterator[list[Row]]], Iterator[str]],
) -> Response:
    """Return a file of pages of rows. Raises ServiceUnavailable if as many exports as possible are being read."""
    if not exports.acquire(blocking=False):
        raise ServiceUnavailable(_("Other exports are in progress. Retry later."), retry_after=RETRY_AFTER)
    response = Response(content_type=content_type)
    # At the end of the response, or when it is lost to an error: at either, and once.
    response.call_on_close(weakref.finalize(response, exports.release))
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    # Read the first page before the response starts, so that a database error still gets its own status.
    first = next(pages, [])
    response.response = stream_with_context(text_of(until_deadline(chain([first], pages))))
    return response


def until_deadline(pages: Iterator[list[Row]]) -> Iterator[list[Row]]:
    """Yield the pages. Raises SlowClient after `EXPORT_SECONDS`."""
    ends_at = time.monotonic() + EXPORT_SECONDS
    for page in pages:
        if time.monotonic() > ends_at:
            raise SlowClient(f"an export may take {EXPORT_SECONDS:.0f} s")
        yield page
