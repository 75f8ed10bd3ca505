"""Three people, one for each role, and the browsers and programs they use."""

import re
from collections.abc import Callable
from functools import cache

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import tasks
from admin.api import request_metrics
from admin.auth import identity, passwords
from admin.auth.login import limiter
from admin.operations.tokens import create_token
from admin.pages import live_refresh
from app import create_app
from config import settings
from models import Operator

#: What the program has. In the process of the tests a password is hashed in no time: hundreds of them sign in.
SLOW_HASHER, passwords.hasher = passwords.hasher, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

#: Runs `flask …`; what it printed.
RunFlask = Callable[..., str]

PASSWORD = "correct horse battery"
PEOPLE = {role: f"{role}@example.org" for role in ("viewer", "operator", "admin")}


class Browser(FlaskClient):
    """A browser without a screen: it keeps cookies, and sends forms with their token."""

    def sign_in(self, email: str, password: str = PASSWORD, url: str = "/login") -> TestResponse:
        return self.send(url, email=email, password=password)

    def send(self, url: str, **fields: str) -> TestResponse:
        return self.post(url, data={"csrf_token": self.form_token, **fields})

    @property
    def form_token(self) -> str:
        """As it stands in the forms of this browser's pages."""
        shown = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/no-such-page").text) or re.search(
            r'name="csrf_token" value="([^"]+)"', self.get("/login").text
        )
        assert shown, "no form on the page"
        return shown[1]


def create_app_with_people() -> Flask:
    """The web program on the database that is bound now, and in it an operator for each role."""
    empty_queues()
    for role, email in PEOPLE.items():
        Operator.create(email=email, role=role, password_hash=password_hash())
    return fresh_program()


def fresh_program() -> Flask:
    """The web program, with nothing in its memory of the test before."""
    app = shared_app()
    for forget in (
        limiter.reset,
        identity.session_cache.forget,
        live_refresh.page_cache.forget,
        request_metrics.request_counter(app).pending.clear,
    ):
        forget()
    return app


@cache
def shared_app() -> Flask:
    """One for all tests of a process: what differs from one test to the next is in the database and the brokers."""
    app = create_app()
    app.test_client_class = Browser
    return app


def empty_queues() -> None:
    """The brokers' file is one for all tests of this process."""
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
    """The headers of a program with a new token of this role."""
    return {"Authorization": f"Bearer {create_token(f'a {role} program', role)}"}


@cache
def password_hash() -> str:
    return passwords.checked_hash(PASSWORD)
