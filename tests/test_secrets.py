"""Passwords and tokens: creation, storage and verification."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from browsers import PASSWORD, PEOPLE, SLOW_HASHER, Browser, bearer_headers
from flask import Flask

from admin.auth import passwords
from admin.auth.identity import LAST_USED_PRECISION
from admin.operations.operators import create_operator
from admin.operations.tokens import create_token
from admin.problems import ConflictError, InvalidInput
from engine.database import database
from engine.models import now
from models import Operator, Token


@pytest.fixture
def slow_hasher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", SLOW_HASHER)


@pytest.mark.usefixtures("slow_hasher")
def test_password_is_stored_only_as_argon2id(app: Flask) -> None:
    password = create_operator("New@Example.org", "viewer")
    stored = Operator.get(Operator.email == "new@example.org").password_hash
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert len(password) >= 20
    assert password not in dump_database()


@pytest.mark.usefixtures("slow_hasher")
def test_hash_with_older_parameters_is_renewed_at_sign_in(browser: Browser) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    Operator.update(password_hash=weak).where(Operator.role == "viewer").execute()
    assert browser.sign_in(PEOPLE["viewer"]).status_code == 303
    assert Operator.get(Operator.role == "viewer").password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_token_and_cookie_are_not_in_the_database(app: Flask, browser: Browser) -> None:
    token = create_token("uploader", "operator")
    assert re.fullmatch(r"dewey_[\w-]{43}", token)
    browser.sign_in(PEOPLE["viewer"])
    with browser.session_transaction() as session:
        secret = session["_user_id"]
    assert token.removeprefix("dewey_") not in dump_database()
    assert secret not in dump_database()
    assert PASSWORD not in dump_database()


def dump_database() -> str:
    return "\n".join(database.obj.connection().iterdump())


def test_token_works_until_revoked_or_expired(app: Flask, browser: Browser) -> None:
    headers = bearer_headers("viewer")
    path = "/api/v1/admin/reading-sessions/cleanup-stats"
    assert browser.get(path, headers=headers).status_code == 200
    Token.update(expires_at=now()).execute()
    assert browser.get(path, headers=headers).status_code == 401
    Token.update(expires_at=now() + timedelta(days=1)).execute()
    assert browser.get(path, headers=headers).status_code == 200
    Token.update(revoked_at=now()).execute()
    assert browser.get(path, headers=headers).status_code == 401


def test_token_use_is_recorded_to_the_minute(app: Flask, browser: Browser) -> None:
    headers = bearer_headers("viewer")
    browser.get("/api/v1/admin/reading-sessions/cleanup-stats", headers=headers)
    first = Token.get().used_at
    assert now() - first < LAST_USED_PRECISION
    browser.get("/api/v1/admin/reading-sessions/cleanup-stats", headers=headers)
    assert Token.get().used_at == first
    Token.update(used_at=first - 2 * LAST_USED_PRECISION).execute()
    browser.get("/api/v1/admin/reading-sessions/cleanup-stats", headers=headers)
    assert Token.get().used_at > first


def test_wrong_token_is_rejected_despite_a_valid_cookie(sign_in_as: Callable[[str], Browser]) -> None:
    headers = {"Authorization": "Bearer dewey_wrong"}
    assert sign_in_as("admin").get("/", headers=headers).status_code == 401


def test_basic_auth_of_a_proxy_does_not_hide_the_cookie(sign_in_as: Callable[[str], Browser]) -> None:
    headers = {"Authorization": "Basic dXNlcjpwYXNz"}
    assert sign_in_as("admin").get("/no-such-page", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"email": "no-address", "role": "viewer"}, "email"),
        ({"email": "a b@example.org", "role": "viewer"}, "email"),
        ({"email": "a@example.org", "role": "root"}, "role"),
        ({"email": "a@example.org", "role": "viewer", "password": "short"}, "password"),
        ({"email": "a@example.org", "role": "viewer", "password": "x" * 129}, "password"),
    ],
)
def test_invalid_operator_is_rejected_by_field(app: Flask, arguments: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        create_operator(**arguments)
    assert refusal.value.field == field


def test_duplicate_name_is_rejected(app: Flask) -> None:
    with pytest.raises(ConflictError):
        create_operator(PEOPLE["viewer"].upper(), "admin")
    create_token("uploader", "viewer")
    with pytest.raises(ConflictError):
        create_token("uploader", "viewer")
