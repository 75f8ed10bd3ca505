"""Access of every route with every method, for anonymous users and for each role."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from browsers import PASSWORD, PEOPLE, Browser, bearer_headers
from flask import Flask
from werkzeug.routing import IntegerConverter, Rule
from werkzeug.test import TestResponse

from admin.api.routes import action_rule, query_rule
from admin.auth.access import requires_role
from admin.auth.identity import ROLES
from admin.operations.queries import QUERIES
from admin.operations.registry import ACTIONS
from admin.operations.tokens import create_token

OPEN_TO_ALL = {"/login", "/preferences", "/static/<path:filename>", "/healthz", "/healthcheck", "/readyz"}
OPEN_TO_LOOPBACK = {"/metrics"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.7"}

READ, WRITE, READ_AND_WRITE = "GET HEAD", "POST", "GET HEAD POST"

#: The role that each command and each page requires. A viewer may open every other page.
COMMANDS = {
    "operator": {
        "/api/task/abort/<run_id>": WRITE,
        "/api/task/apply/<name>": WRITE,
        "/api/task/async-apply/<name>": WRITE,
        "/api/task/revoke/<run_id>": WRITE,
        "/api/task/send-task/<name>": WRITE,
        "/api/v1/admin/books": WRITE,
        "/api/v1/admin/reading-sessions/cleanup": WRITE,
        "/api/v1/admin/reading-sessions/cleanup-async": WRITE,
        "/alerts/tests": WRITE,
        "/bulk": WRITE,
        "/bulk/<int:bulk_id>/stop": WRITE,
        "/bulk/new": READ,
        "/dead/<run_id>/requeue": WRITE,
        "/errors/<group_id>/reopen": WRITE,
        "/errors/<group_id>/resolve": WRITE,
        "/errors/<group_id>/snooze": "POST DELETE",
        "/queues/<name>/pause": "POST DELETE",
        "/queues/<name>/resume": WRITE,
        "/runs/<run_id>/again": READ_AND_WRITE,
        "/runs/<run_id>/cancel": WRITE,
        "/runs/<run_id>/retry": WRITE,
        "/schedule/<task>/catch-up": WRITE,
        "/schedule/<task>/pause": "GET HEAD POST DELETE",
        "/schedule/<task>/resume": WRITE,
        "/schedule/<task>/run": WRITE,
        "/sessions/<uuid:session_id>/close": READ_AND_WRITE,
        "/sessions/cleanup": WRITE,
        "/tasks/<name>/pause": "POST DELETE",
        "/tasks/<name>/resume": WRITE,
        "/tasks/<name>/run": WRITE,
    },
    "admin": {
        "/api/worker/shutdown/<name>": WRITE,
        "/dead/<run_id>/discard": READ_AND_WRITE,
        "/operators": WRITE,
        "/operators/<int:operator_id>/disable": READ_AND_WRITE,
        "/operators/<int:operator_id>/enable": WRITE,
        "/operators/<int:operator_id>/password": WRITE,
        "/operators/<int:operator_id>/role": WRITE,
        "/queues/<name>/purge": READ_AND_WRITE,
        "/runs/<run_id>": "DELETE",
        "/runs/<run_id>/delete": READ_AND_WRITE,
        "/tokens": WRITE,
        "/tokens/<int:token_id>/revoke": READ_AND_WRITE,
        "/workers/<worker_id>/dump": WRITE,
        "/workers/<worker_id>/quiet": "POST DELETE",
        "/workers/<worker_id>/restart": READ_AND_WRITE,
        "/workers/<worker_id>/stop": READ_AND_WRITE,
        "/workers/<worker_id>/wake": WRITE,
    },
}
REQUIRED_ROLES = {
    (method, rule): role for role, rules in COMMANDS.items() for rule, methods in rules.items()
    for method in methods.split()
} | {("POST", action_rule(action)): action.role for action in ACTIONS.values()} | {
    ("GET", query_rule(read)): read.role for read in QUERIES.values()
}  # fmt: skip
REQUIRED_ROLES |= {("HEAD", rule): role for (method, rule), role in REQUIRED_ROLES.items() if method == "GET"}


def route_calls(app: Flask) -> Iterator[tuple[Rule, str, str]]:
    """Return every route with each of its methods, and a path that leads to it."""
    for rule in app.url_map.iter_rules():
        with app.test_request_context():
            values = {name: value_for(rule, name) for name in rule.arguments}
            path = app.url_map.bind("localhost").build(rule.endpoint, values, method=min(rule.methods - {"OPTIONS"}))
        for method in METHODS:
            if method in rule.methods:
                yield rule, method, path


def value_for(rule: Rule, name: str) -> object:
    if isinstance(rule._converters[name], IntegerConverter):
        return 1
    return "app.css" if name == "filename" else str(UUID(int=1))


# --- every route ---------------------------------------------------------------------------------------------


def test_anonymous_client_reaches_only_public_paths(app: Flask, browser: Browser) -> None:
    for rule, method, path in route_calls(app):
        if rule.rule in OPEN_TO_ALL:
            continue
        answer = browser.open(path, method=method, environ_overrides=ELSEWHERE)
        to_sign_in = answer.status_code == 302 and answer.location.startswith("/login")
        assert to_sign_in or answer.status_code == 401, f"{method} {rule.rule} answered {answer.status_code}"
        assert "Bearer" in answer.headers.get("WWW-Authenticate", "") or to_sign_in


def test_unknown_token_is_rejected(app: Flask, browser: Browser) -> None:
    for rule, method, path in route_calls(app):
        if rule.rule not in OPEN_TO_ALL:
            headers = {"Authorization": "Bearer dewey_wrong"}
            answer = browser.open(path, method=method, headers=headers, environ_overrides=ELSEWHERE)
            assert answer.status_code == 401, f"{method} {rule.rule} answered {answer.status_code}"
            assert "invalid_token" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["cookie", "token"])
def test_role_reaches_only_what_it_may(app: Flask, sign_in_as: Callable[[str], Browser], role: str, how: str) -> None:
    create_token("what is revoked on the way", "viewer")
    browser = sign_in_as(role) if how == "cookie" else app.test_client()
    headers = {"X-CSRFToken": browser.form_token} if how == "cookie" else bearer_headers(role)
    for rule, method, path in route_calls(app):
        if rule.rule in OPEN_TO_ALL or rule.rule == "/logout" or method == "OPTIONS":
            continue
        needed = REQUIRED_ROLES.get((method, rule.rule), "viewer")
        answer = browser.open(path, method=method, headers=headers, environ_overrides=ELSEWHERE)
        may = ROLES.index(role) >= ROLES.index(needed)
        assert (answer.status_code != 403) == may, f"{role}: {method} {rule.rule} answered {answer.status_code}"
        assert answer.status_code not in (400, 401), f"{role}: {method} {rule.rule} answered {answer.status_code}"


@pytest.mark.adds_views
def test_view_without_a_role_is_closed_to_everyone(app: Flask, sign_in_as: Callable[..., Browser]) -> None:
    app.add_url_rule("/forgotten", "forgotten", lambda: "secret")
    assert app.test_client().get("/forgotten").location == "/login?next=/forgotten"
    answer = sign_in_as("admin").get("/forgotten")
    assert answer.status_code == 403
    assert "secret" not in answer.text


@pytest.mark.adds_views
def test_view_refuses_lower_roles(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    app.add_url_rule("/danger", "danger", requires_role("admin")(lambda: "done"))
    assert [sign_in_as(role).get("/danger").status_code for role in ROLES] == [403, 403, 200]


def test_commands_do_not_accept_get(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.methods & {"POST", "PUT", "PATCH", "DELETE"} and rule.endpoint != "sign_in.sign_in":
            assert "GET" not in rule.methods, rule.rule


# --- forgeries -----------------------------------------------------------------------------------------------


def test_form_without_csrf_token_is_rejected(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    browser = sign_in_as("admin")
    assert browser.post("/logout").status_code == 400
    assert browser.post("/logout", data={"csrf_token": "wrong"}).status_code == 400
    assert browser.post("/logout", data={"csrf_token": sign_in_as("viewer").form_token}).status_code == 400
    assert browser.post("/login", data={"email": PEOPLE["admin"], "password": PASSWORD}).status_code == 400
    assert browser.get("/no-such-page").text.count('action="/logout"') == 1


def test_api_accepts_a_cookie_only_with_the_csrf_token(sign_in_as: Callable[[str], Browser]) -> None:
    path, viewer = "/api/v1/admin/reading-sessions/cleanup-async", sign_in_as("viewer")
    answer = sign_in_as("operator").post(path)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert viewer.post(path, headers={"X-CSRFToken": viewer.form_token}).status_code == 403


@pytest.mark.parametrize(("site", "refused"), [("cross-site", True), ("same-site", True), ("none", False)])
def test_cross_site_form_is_rejected(sign_in_as: Callable[[str], Browser], site: str, refused: bool) -> None:
    browser = sign_in_as("admin")
    token = browser.form_token
    answer = browser.post("/logout", data={"csrf_token": token}, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == (403 if refused else 303)


def test_token_request_needs_no_csrf_token(app: Flask, browser: Browser) -> None:
    headers = bearer_headers("viewer") | {"Sec-Fetch-Site": "cross-site"}
    answer = browser.post("/api/v1/admin/reading-sessions/cleanup-async", headers=headers)
    assert answer.json["detail"] == "Requires the operator role. Your role is viewer."


# --- loopback ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, "open"),
        ("127.8.9.1", {}, "open"),
        ("::1", {}, "open"),
        ("::ffff:127.0.0.1", {}, "open"),
        ("127.0.0.1", {"X-Real-IP": "203.0.113.7"}, "open"),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, "closed"),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, "closed"),
        ("127.0.0.1", {"x-forwarded-anything": ""}, "closed"),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, "closed"),
        ("203.0.113.7", {}, "closed"),
        ("10.0.0.1", {"Host": "127.0.0.1"}, "closed"),
        ("", {}, "closed"),
    ],
)
def test_health_checks_are_open_to_direct_loopback_or_a_viewer(
    app: Flask, browser: Browser, peer: str, headers: dict[str, str], status: str
) -> None:
    def ask(path: str, **options: str) -> TestResponse:
        return browser.get(path, headers=headers | options, environ_overrides={"REMOTE_ADDR": peer})

    viewer = bearer_headers("viewer")
    assert (ask("/metrics").status_code == 401) == (status == "closed")
    assert ask("/metrics", **viewer).status_code == 200
    answer = ask("/readyz")
    assert (answer.status_code, "reasons" in answer.json) == (503, status == "open")
    assert ("no live worker" in answer.text) == (status == "open")
    assert "no live worker on light" in ask("/readyz", **viewer).json["reasons"]
    assert "reasons" not in ask("/readyz", Authorization="Bearer dewey_wrong").json or status == "open"


@pytest.mark.usefixtures("live_consumers")
def test_anonymous_client_sees_no_readiness_warnings(browser: Browser) -> None:
    answer = browser.get("/readyz", environ_overrides=ELSEWHERE)
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})
