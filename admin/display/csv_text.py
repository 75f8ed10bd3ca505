"""CSV export."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence

#: First characters of a formula in spreadsheets.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(columns: Sequence[str], pages: Iterable[Iterable[Iterable[object]]]) -> Iterator[str]:
    """Yield the text of a file with these columns, page by page."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for rows in pages:
        writer.writerows([csv_cell(value) for value in row] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def csv_cell(value: object) -> object:
    """Return the value so that a spreadsheet shows it and does not run it as a formula."""
    if isinstance(value, dict | list | bool):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
