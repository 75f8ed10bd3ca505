"""Three users, one for each role, and their browsers and API clients."""

import re
from collections.abc import Callable
from functools import cache

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import tasks
from admin.api import request_metrics
from admin.auth import identity, passwords, rate_limits, refusals
from admin.operations.tokens import create_token
from admin.pages import live_refresh
from app import create_app
from config import settings
from models import Operator

#: Settings of the program. The fast password hash saves seconds: hundreds of tests sign in.
SLOW_HASHER, passwords.hasher = passwords.hasher, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

#: Run `flask …` and return its output.
RunFlask = Callable[..., str]

#: Set SECRET_KEY and the keys of SECRET_KEY_OLD.
UseKeys = Callable[..., None]

PASSWORD = "correct horse battery"
PEOPLE = {role: f"{role}@example.org" for role in ("viewer", "operator", "admin")}


class Browser(FlaskClient):
    """A browser without a screen. It keeps cookies and sends forms with their CSRF token."""

    def sign_in(self, email: str, password: str = PASSWORD, url: str = "/login") -> TestResponse:
        return self.send(url, email=email, password=password)

    def send(self, url: str, **fields: str) -> TestResponse:
        return self.post(url, data={"csrf_token": self.form_token, **fields})

    @property
    def form_token(self) -> str:
        """Return the CSRF token in the forms of this browser's pages."""
        shown = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/no-such-page").text) or re.search(
            r'name="csrf_token" value="([^"]+)"', self.get("/login").text
        )
        assert shown, "no form on the page"
        return shown[1]


def create_app_with_people() -> Flask:
    """Create the web program on the bound database, with one operator for each role."""
    empty_queues()
    for role, email in PEOPLE.items():
        Operator.create(email=email, role=role, password_hash=password_hash())
    return fresh_program()


def fresh_program() -> Flask:
    """Create the web program without the memory of the previous test."""
    app = shared_app()
    for forget in (
        rate_limits.limiter.storage.reset,
        identity.session_cache.forget,
        refusals.windows.clear,
        live_refresh.page_cache.forget,
        request_metrics.request_counter(app).pending.clear,
    ):
        forget()
    return app


@cache
def shared_app() -> Flask:
    """Return one app for all tests of a process. Tests differ in the content of the database and the brokers."""
    app = create_app()
    app.test_client_class = Browser
    return app


def empty_queues() -> None:
    """Empty the brokers' file, which all tests of this process share."""
    for queue in tasks.queues.values():
        for held in queue.storage.deliveries.held():
            queue.storage.deliveries.release(
                held.consumer, None, "a test left it", settings.max_deliveries, counts=False
            )
        queue.flush()
        for run_id, _data in queue.storage.dead_letters.all():
            queue.storage.dead_letters.discard(run_id)
        while events := queue.storage.events.read(0, 1000):
            queue.storage.events.trim(events[-1][0])
        for target in queue.pauses():
            queue.storage.pauses.remove(target)


def sign_in_browser(app: Flask, role: str) -> Browser:
    browser = app.test_client()
    assert browser.sign_in(PEOPLE[role]).status_code == 303
    return browser


def bearer_headers(role: str) -> dict[str, str]:
    """Return the headers of an API client with a new token of this role."""
    return {"Authorization": f"Bearer {create_token(f'a {role} program', role)}"}


@cache
def password_hash() -> str:
    return passwords.checked_hash(PASSWORD)
