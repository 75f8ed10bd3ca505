"""The limit of rows in an export, which says so at its end."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from flask_babel import gettext as _

from admin.display.numbers import format_number

Row = TypeVar("Row")

#: Most rows of a file. Spreadsheets open at most 1,048,576.
MAX_ROWS = 1_000_000


class CappedPages(Generic[Row]):
    """Pages of rows, up to a limit. `is_cut` is set afterwards if there were more."""

    def __init__(self, pages: Iterable[list[Row]], most: int = MAX_ROWS) -> None:
        self.pages, self.most, self.is_cut = pages, most, False

    def __iter__(self) -> Iterator[list[Row]]:
        left = self.most
        for rows in self.pages:
            yield rows[:left]
            self.is_cut = len(rows) > left
            if self.is_cut:
                return
            left -= len(rows)

    def cells(self, cells_of: Callable[[Row], Iterable[object]]) -> Iterator[list[Iterable[object]]]:
        """Yield the rows of a CSV file. The last one of a cut file says so."""
        for rows in self:
            yield [cells_of(row) for row in rows]
        if self.is_cut:
            most = format_number(self.most)
            yield [[_("This file ends at the limit of %(most)s rows. Narrow the filter for the others.", most=most)]]
