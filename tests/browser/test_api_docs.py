"""The page of the JSON API in a real browser: complete without JavaScript and without other hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE
from installation import Installation
from playwright.sync_api import expect

from browser.chromium import Open


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    installation.flask("migrate")
    installation.flask("operator", "create", PEOPLE["viewer"], "--role", "viewer", "--password-stdin", typed=PASSWORD)
    with installation.web():
        yield installation


def test_api_docs_are_readable_without_javascript_or_other_hosts(open_page: Open) -> None:
    page, hosts = open_page(email=PEOPLE["viewer"], java_script_enabled=False), set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.get_by_role("link", name="API", exact=True).click()
    page.get_by_role("link", name="POST /api/v1/admin/runs/{run_id}/again").click()
    card = page.get_by_role("region", name="POST /api/v1/admin/runs/{run_id}/again")
    expect(card).to_contain_text("operator")
    expect(card.get_by_role("row", name="Idempotency-Key")).to_contain_text("header")
    page.get_by_role("navigation", name="Parts of the API").get_by_role("link", name="queues").click()
    expect(page.get_by_role("heading", name="JSON API · queues")).to_be_visible()
    assert len(hosts) == 1
