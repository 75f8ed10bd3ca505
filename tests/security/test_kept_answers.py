"""Responses stored for an `Idempotency-Key` are sealed: unreadable, unchangeable, and valid for one request."""

from collections.abc import Callable
from typing import Any

import pytest
from browsers import UseKeys, bearer_headers, create_app_with_people
from test_keys import FIRST, SECOND
from werkzeug.test import TestResponse

from engine import sealing
from models import IdempotencyRecord, Token


@pytest.fixture
def create_token(each_database: str) -> Callable[[str], TestResponse]:
    """Return a function that creates a token with this name, which is the idempotency key too."""
    app, headers = create_app_with_people(), bearer_headers("admin")

    def create(name: str) -> TestResponse:
        body = {"name": name, "role": "viewer"}
        own_headers = headers | {"Idempotency-Key": name}
        return app.test_client().post("/api/v1/admin/tokens/create", json=body, headers=own_headers)

    return create


def test_kept_answer_is_replayed_under_a_new_key(
    create_token: Callable[[str], TestResponse], use_keys: UseKeys
) -> None:
    use_keys(FIRST)
    first = create_token("x")
    use_keys(SECOND, FIRST)
    assert create_token("x").json == first.json and first.json["result"].startswith("dewey_")
    use_keys(SECOND)
    assert create_token("x").status_code == 409
    assert Token.select().where(Token.name == "x").count() == 1


def flip_bit(body: str) -> str:
    return body[:-1] + f"{int(body[-1], 16) ^ 1:x}"


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("body", flip_bit),
        ("status", lambda status: 201),
        ("content_type", lambda kind: "text/html"),
        ("body", lambda body: body[:20]),
        ("body", lambda body: ""),
        ("body", lambda body: "not hexadecimal"),
        ("body", lambda body: "00" * 16 + body),
    ],
    ids=["one_bit", "status", "content_type", "cut_off", "emptied", "no_number", "lengthened"],
)
def test_changed_kept_answer_is_never_returned(
    create_token: Callable[[str], TestResponse], column: str, change: Callable[[Any], Any]
) -> None:
    assert create_token("x").status_code == 200
    record = IdempotencyRecord.get()
    setattr(record, column, change(getattr(record, column)))
    record.save()
    answer = create_token("x")
    assert (answer.status_code, "cannot be read" in answer.json["detail"]) == (409, True)
    assert Token.select().where(Token.name == "x").count() == 1


def test_kept_answer_belongs_to_its_key_and_request(create_token: Callable[[str], TestResponse]) -> None:
    assert [create_token(name).status_code for name in ("x", "y")] == [200, 200]
    sealed, own = IdempotencyRecord.select().order_by(IdempotencyRecord.created_at)
    own.body = sealed.body
    own.save()
    assert create_token("y").status_code == 409


def test_sealed_text_has_one_context_one_purpose_and_no_second_nonce(use_keys: UseKeys) -> None:
    use_keys(FIRST)
    sealed, again = (sealing.seal(b"answers", b"text", b"context") for _ in range(2))
    assert sealed != again and b"text" not in sealed
    assert sealing.unseal(b"answers", sealed, b"context") == b"text"
    for purpose, context in ((b"answers", b"other"), (b"audit", b"context")):
        with pytest.raises(sealing.Unreadable):
            sealing.unseal(purpose, sealed, context)
    use_keys(SECOND, FIRST)
    renewed = sealing.seal(b"answers", b"text", b"context")
    assert sealing.unseal(b"answers", sealed, b"context") == b"text"
    use_keys(FIRST)
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(b"answers", renewed, b"context")
