"""A write that is repeated with its idempotency key is executed once and returns the first response."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from browsers import bearer_headers, create_app_with_people
from factories import create_run
from flask import Flask
from werkzeug.test import TestResponse

from engine.database import database, release_connection
from engine.models import Run, now
from models import IdempotencyRecord, Token

BASE = "/api/v1/admin"
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}

Send = Callable[..., TestResponse]


@pytest.fixture
def application(each_database: str) -> Flask:
    return create_app_with_people()


@pytest.fixture
def send(application: Flask) -> Send:
    headers = bearer_headers("admin")

    def send(path: str, body: Any = None, **options: Any) -> TestResponse:
        own = headers | KEY | options.pop("headers", {})
        return application.test_client().post(f"{BASE}{path}", json=body, headers=own, **options)

    return send


def test_repeated_key_replays_the_first_response(send: Send) -> None:
    first, second = (send("/tasks/get_cleanup_statistics/run", {"arguments": {"hours": 3}}) for _ in range(2))
    assert (first.status_code, second.status_code, second.json) == (200, 200, first.json)
    assert (first.headers.get("Idempotency-Replayed"), second.headers.get("Idempotency-Replayed")) == (None, "true")
    assert second.mimetype == "application/json"
    assert Run.select().count() == 1


def test_error_response_is_replayed_too(send: Send) -> None:
    ended = create_run(state="succeeded")
    first, second = (send(f"/runs/{ended.id}/cancel") for _ in range(2))
    assert (first.status_code, second.status_code, second.json) == (409, 409, first.json)
    assert second.mimetype == "application/problem+json"


def test_key_with_another_request_is_rejected(send: Send) -> None:
    send("/queues/light/pause", {"reason": "a"})
    for path, body in (("/queues/light/pause", {"reason": "b"}), ("/queues/heavy/pause", {"reason": "a"})):
        answer = send(path, body)
        assert (answer.status_code, answer.json["field"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize("key", ["", "with a space", "ключ", "x" * 256])
def test_invalid_key_is_rejected(send: Send, key: str) -> None:
    answer = send("/queues/light/pause", headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json["field"]) == (422, "Idempotency-Key")


def test_keys_are_separate_per_token(application: Flask, send: Send) -> None:
    send("/tasks/get_cleanup_statistics/run")
    headers = bearer_headers("operator") | KEY
    application.test_client().post(f"{BASE}/tasks/get_cleanup_statistics/run", headers=headers)
    assert Run.select().count() == 2


def test_key_expires_after_a_day(send: Send) -> None:
    send("/tasks/get_cleanup_statistics/run")
    IdempotencyRecord.update(created_at=now() - timedelta(hours=24, seconds=1)).execute()
    send("/tasks/get_cleanup_statistics/run")
    assert (Run.select().count(), IdempotencyRecord.select().count()) == (2, 1)


def test_concurrent_requests_with_one_key_run_once(application: Flask, send: Send) -> None:
    for number in range(8):
        start = Barrier(2)

        def send_once(number: int = number, start: Barrier = start) -> TestResponse:
            start.wait()
            try:
                return send(
                    "/tokens/create",
                    {"name": f"n{number}", "role": "viewer"},
                    headers={"Idempotency-Key": f"k{number}"},
                )
            finally:
                release_connection()

        with ThreadPoolExecutor(2) as both:
            answers = [future.result() for future in [both.submit(send_once), both.submit(send_once)]]
        assert [answer.status_code for answer in answers].count(200) >= 1
        for answer in answers:
            assert answer.status_code == 200 or "running or was interrupted" in answer.json["detail"]
        assert len({answer.text for answer in answers if answer.status_code == 200}) == 1
    assert Token.select().where(Token.name.startswith("n")).count() == 8


def test_interrupted_request_is_never_repeated(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    send("/queues/light/pause")
    IdempotencyRecord.update(status=None, body=None).execute()
    answer = send("/queues/light/pause")
    assert answer.status_code == 409
    assert "was interrupted" in answer.json["detail"]


def test_retryable_response_frees_the_key(send: Send) -> None:
    path, headers = "/reading-sessions/cleanup", {"Idempotency-Key": "again"}
    assert [send(path, headers=headers).status_code for _ in range(2)] == [503, 503]
    assert IdempotencyRecord.select().count() == 0


def test_stored_response_contains_no_secret(send: Send) -> None:
    first, second = (send("/tokens/create", {"name": "x", "role": "viewer"}) for _ in range(2))
    assert first.json["result"].startswith("dewey_")
    assert second.json == first.json
    rows = database.execute_sql("SELECT * FROM dewey_kept_answers").fetchall()
    secret = first.json["result"]
    assert secret not in str(rows) and secret.encode().hex() not in str(rows)


def test_get_request_ignores_the_key(application: Flask) -> None:
    headers = bearer_headers("viewer") | KEY
    assert application.test_client().get(f"{BASE}/queues", headers=headers).status_code == 200
    assert IdempotencyRecord.select().count() == 0
