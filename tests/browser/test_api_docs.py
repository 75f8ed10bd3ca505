"""The page of the JSON API in a real browser: complete without a script, and nothing from anywhere else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import chromium, sign_in
from installation import Installation
from playwright.sync_api import Page, expect

PASSWORD = "correct horse battery"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    place = Installation(tmp_path)
    place.flask("migrate")
    place.flask("operator", "create", "vera@example.org", "--role", "viewer", "--password-stdin", typed=PASSWORD)
    with place.web(), chromium() as browser:
        page = browser.new_page(java_script_enabled=False, base_url=f"http://127.0.0.1:{place.port}")
        sign_in(page, f"http://127.0.0.1:{place.port}", "vera@example.org", PASSWORD)
        yield page


def test_an_operation_is_found_and_read_without_a_script(page: Page) -> None:
    hosts, refused = set(), []
    page.on("request", lambda asked: hosts.add(asked.url.split("/")[2]))
    page.on("console", lambda said: refused.append(said.text) if said.type == "error" else None)
    page.get_by_role("link", name="API", exact=True).click()
    page.get_by_role("link", name="POST /api/v1/admin/runs/{run_id}/again").click()
    card = page.get_by_role("region", name="POST /api/v1/admin/runs/{run_id}/again")
    expect(card).to_contain_text("operator")
    expect(card.get_by_role("row", name="Idempotency-Key")).to_contain_text("header")
    page.get_by_role("navigation", name="Parts of the API").get_by_role("link", name="queues").click()
    expect(page.get_by_role("heading", name="JSON API · queues")).to_be_visible()
    assert (len(hosts), refused) == (1, [])
