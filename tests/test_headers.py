"""Response headers: the content that a browser may load, store, show and send back."""

import re
from collections.abc import Callable

import pytest
from browsers import PEOPLE, Browser
from flask import Flask

from admin.auth.access import public

pytestmark = pytest.mark.adds_views

POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "script-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}

ANSWERS = [
    ("GET", "/login", 200),
    ("GET", "/healthz", 200),
    ("GET", "/static/favicon.svg", 200),
    ("GET", "/", 302),
    ("POST", "/login", 400),
    ("POST", "/logout", 401),
    ("GET", "/api/v1/admin/reading-sessions/cleanup-stats", 401),
    ("GET", "/no-such-page", 404),
    ("GET", "/api/no-such-thing", 404),
    ("GET", "/static/no-such-file", 404),
    ("DELETE", "/login", 405),
    ("GET", "/broken", 500),
    ("GET", "/api/broken", 500),
]


@pytest.fixture
def app(app: Flask) -> Flask:
    @public
    def broken() -> None:
        raise RuntimeError("an internal secret")

    app.add_url_rule("/broken", "broken", broken)
    app.add_url_rule("/api/broken", "api_broken", broken)
    return app


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_response_has_restrictive_headers(browser: Browser, method: str, path: str, status: int) -> None:
    answer = browser.open(path, method=method, buffered=True)
    assert answer.status_code == status
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in answer.headers
    assert "internal secret" not in answer.text


def test_pages_are_not_cached(browser: Browser, sign_in_as: Callable[[str], Browser]) -> None:
    for path in ("/login", "/", "/no-such-page", "/healthz", "/api/v1/admin/reading-sessions/cleanup-stats"):
        assert browser.get(path).headers["Cache-Control"] == "no-store"
    viewer = sign_in_as("viewer")
    for path in ("/", "/sessions", "/runs", "/no-such-page", "/api/v1/admin/reading-sessions/cleanup-stats"):
        assert viewer.get(path).headers["Cache-Control"] == "no-store", path


def test_versioned_static_file_is_cached_forever(browser: Browser) -> None:
    address = re.search(r'href="(/static/app.css\?v=[0-9a-f]+)"', browser.get("/login").text)
    assert address
    for path, cached in [
        (address[1], "public, max-age=31536000, immutable"),
        ("/static/app.css", "no-cache"),
        ("/static/no-such-file?v=1", "no-store"),
    ]:
        assert browser.get(path, buffered=True).headers["Cache-Control"] == cached


def test_https_cookie_is_secure_and_host_bound(app: Flask, browser: Browser) -> None:
    headers = {"Referer": "https://localhost/login"}
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login", base_url="https://localhost").text)
    assert token
    form = {"csrf_token": token[1], "email": PEOPLE["viewer"], "password": "correct horse battery"}
    answer = browser.post("/login", base_url="https://localhost", headers=headers, data=form)
    assert answer.status_code == 303
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-dewey=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} == set(cookie.split("; ")[1:])


def test_http_cookie_is_httponly_and_samesite(browser: Browser) -> None:
    cookie = browser.get("/login").headers["Set-Cookie"]
    assert cookie.startswith("dewey=")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} == set(cookie.split("; ")[1:])


def test_pages_contain_nothing_the_policy_forbids(sign_in_as: Callable[[str], Browser]) -> None:
    admin = sign_in_as("admin")
    for path in ("/", "/sessions", "/runs", "/sessions/cleanup", "/no-such-page"):
        text = admin.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", text), path
