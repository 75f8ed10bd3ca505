"""The error that ends the reading of a book."""

from typing import Literal

Code = Literal[
    "not_a_book",
    "encrypted",
    "truncated",
    "zip_bomb",
    "entity_bomb",
    "too_deep",
    "too_many_entries",
    "too_large",
    "empty",
    "incomplete",
    "unsupported",
    "missing_file",
]


class BookError(Exception):
    """The file cannot become a book. `detail` is a plain sentence that names the place in the file."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail
