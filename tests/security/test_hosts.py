"""Which `Host` is answered, and whose forwarded headers are believed."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE, Browser, bearer_headers
from databases import bound_to_library
from flask import Flask
from installation import Installation

from admin.auth import hosts
from models import AuditEntry, BrowserSession

FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evil.example@localhost",
    "127.0.0.1.nip.io",
    "127.0.0.2",
    "[::2]",
    "a_b",
    "a b",
    "",
]
PATHS = ["/", "/login", "/metrics", "/runs", "/api/v1/admin/runs", "/api/docs", "/static/favicon.svg", "/no-such-page"]


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the trusted hosts."""

    def set_hosts(*names: str) -> None:
        monkeypatch.setattr(hosts, "settings", replace(hosts.settings, trusted_hosts=frozenset(names)))

    return set_hosts


@pytest.fixture
def behind(app: Flask) -> Callable[[int], Browser]:
    """Return a function that opens a browser behind this number of trusted proxies."""

    def open_browser(proxies: int) -> Browser:
        hosts.believe_proxies(app, proxies)
        return app.test_client()

    return open_browser


def sign_in(browser: Browser, password: str = PASSWORD, **headers: str):
    headers = {"Referer": "https://localhost/login", **headers}
    shown = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login", headers=headers).text)
    form = {"csrf_token": shown[1], "email": PEOPLE["viewer"], "password": password}
    return browser.post("/login", headers=headers, data=form)


# --- hosts ---------------------------------------------------------------------------------------------------


def test_foreign_host_is_rejected_on_every_path_and_the_setting_is_named(browser: Browser) -> None:
    viewer = bearer_headers("viewer")
    for host, path in [(host, "/metrics") for host in FOREIGN] + [("evil.example", path) for path in PATHS]:
        for headers in ({"Host": host}, {"Host": host, **viewer}):
            answer = browser.get(path, headers=headers)
            assert answer.status_code == 400, (host, path)
            assert "TRUSTED_HOSTS" in answer.text
    assert browser.get("/api/v1/admin/runs", headers={"Host": "evil.example"}).is_json
    assert browser.post("/login", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"])
def test_loopback_names_are_answered(browser: Browser, host: str) -> None:
    assert browser.get("/login", headers={"Host": host}).status_code == 200


@pytest.mark.usefixtures("live_consumers")
def test_probes_are_answered_whatever_the_host_but_without_facts(browser: Browser) -> None:
    for path in ("/healthz", "/healthcheck", "/readyz"):
        for host in FOREIGN:
            answer = browser.get(path, headers={"Host": host})
            assert (answer.status_code, answer.json) == (200, {"status": "ok"})
    assert "warnings" in browser.get("/readyz", headers={"Host": "localhost"}).json


def test_named_hosts_replace_the_default_and_a_star_trusts_any(trust: Callable[..., None], browser: Browser) -> None:
    trust("console.example.org", "fe80::1")
    for host, status in [
        ("Console.Example.org:443", 200),
        ("[fe80::1]:80", 200),
        ("localhost", 400),
        ("a.console.example.org", 400),
    ]:
        assert browser.get("/login", headers={"Host": host}).status_code == status, host
    trust("*")
    assert browser.get("/login", headers={"Host": "evil.example"}).status_code == 200


# --- proxies -------------------------------------------------------------------------------------------------


@pytest.mark.adds_views
def test_address_and_scheme_come_from_the_last_trusted_proxy(behind: Callable[[int], Browser]) -> None:
    browser = behind(1)
    forwarded = {"X-Forwarded-For": "198.51.100.66, 203.0.113.7", "X-Forwarded-Proto": "https"}
    browser.environ_base["REMOTE_ADDR"] = "172.18.0.2"
    assert sign_in(browser, "wrong password 1", **forwarded).status_code == 401
    answer = sign_in(browser, **forwarded)
    assert answer.status_code == 303
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-dewey=") and "; Secure" in cookie
    assert {entry.address for entry in AuditEntry.select()} == {"203.0.113.7"}
    assert BrowserSession.get().address == "203.0.113.7"


@pytest.mark.adds_views
def test_guesses_behind_a_proxy_are_throttled_by_the_address_of_the_client(behind: Callable[[int], Browser]) -> None:
    browser = behind(2)
    for number in range(20):
        forwarded = {"X-Forwarded-For": f"198.51.100.{number}, 203.0.113.7, 10.0.0.1", "X-Forwarded-Proto": "https"}
        headers = {"Referer": "https://localhost/login", **forwarded}
        token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login", headers=headers).text)
        form = {"csrf_token": token[1], "email": f"unknown{number}@example.org", "password": "wrong"}
        assert browser.post("/login", headers=headers, data=form).status_code == 401
    assert sign_in(browser, **forwarded).status_code == 429
    assert sign_in(browser, **forwarded | {"X-Forwarded-For": "203.0.113.8, 10.0.0.1"}).status_code == 303


@pytest.mark.adds_views
def test_request_through_a_proxy_is_never_a_local_one(behind: Callable[[int], Browser]) -> None:
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "::1"}):
        assert behind(1).get("/metrics", headers=headers).status_code == 401


def test_without_trusted_proxies_no_forwarded_header_is_believed(tmp_path: Path) -> None:
    """A peer on this machine is no exception, whatever the web server's own default is."""
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example"}
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/library.db"}
    with bound_to_library(environment["DATABASE_URL"]), Installation(tmp_path, **environment).web() as installation:
        answer = installation.ask("GET", "/login", forwarded)
        assert answer.status == 200
        assert "Strict-Transport-Security" not in answer.headers
        assert answer.headers["Set-Cookie"].startswith("dewey=") and "Secure" not in answer.headers["Set-Cookie"]
        assert installation.ask("GET", "/login", {"Host": "evil.example"}).status == 400
        assert installation.ask("GET", "/healthz", {"Host": "evil.example"}).status == 200
