"""The cost of a page: its SQL statements and its length."""

from collections.abc import Iterator
from contextlib import contextmanager

from browsers import Browser

from engine.database import database

MAX_STATEMENTS, MAX_BYTES = 8, 60_000


@contextmanager
def record_statements() -> Iterator[list[str]]:
    """Record the SQL statements of the block, except those that begin and end transactions."""
    sent: list[str] = []

    def hook(event: object) -> None:
        sql = str(event.sql)  # type: ignore[attr-defined]
        if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            sent.append(sql)

    database.query_hooks.append(hook)
    try:
        yield sent
    finally:
        database.query_hooks.remove(hook)


def measure_cost(browser: Browser, url: str) -> int:
    """Return the number of statements of the page. Raises AssertionError above any page's budget."""
    with record_statements() as sent:
        answer = browser.get(url)
    assert answer.status_code == 200, answer.text
    assert len(sent) <= MAX_STATEMENTS, sent
    assert len(answer.data) <= MAX_BYTES, f"{url}: {len(answer.data):,} bytes"
    return len(sent)
