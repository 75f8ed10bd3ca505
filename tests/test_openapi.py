"""The OpenAPI description of the JSON API, and its page."""

import re
from collections.abc import Callable

import pytest
from browsers import Browser, bearer_headers
from budget import MAX_BYTES
from flask import Flask
from markupsafe import escape

from admin.api.openapi import build_spec
from admin.operations.queries import QUERIES
from admin.operations.registry import ACTIONS

Browsers = Callable[[str], Browser]


def test_spec_describes_exactly_the_served_routes(app: Flask) -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert served == {(path, method) for path, methods in build_spec()["paths"].items() for method in methods}


def test_spec_states_role_and_danger_of_each_operation() -> None:
    operations = {
        operation["operationId"]: operation
        for methods in build_spec()["paths"].values()
        for operation in methods.values()
    }
    for name, action in ACTIONS.items():
        assert (operations[name]["x-role"], operations[name]["x-danger"]) == (action.role, action.danger)
    assert {name: operations[name]["x-role"] for name in QUERIES} == {name: read.role for name, read in QUERIES.items()}


def test_spec_needs_a_viewer(app: Flask, browser: Browser) -> None:
    assert browser.get("/api/openapi.json").status_code == 401
    answer = browser.get("/api/openapi.json", headers=bearer_headers("viewer"))
    assert (answer.json["openapi"], answer.mimetype) == ("3.1.0", "application/json")


def test_docs_page_describes_every_operation_without_javascript(app: Flask, sign_in_as: Browsers) -> None:
    browser = sign_in_as("viewer")
    page = browser.get("/api/docs")
    assert page.mimetype == "text/html"
    for path in build_spec()["paths"]:
        assert path in page.text
    for noun in {operation.noun for operation in [*ACTIONS.values(), *QUERIES.values()]}:
        html = browser.get(f"/api/docs?about={noun}").text
        assert len(html.encode()) <= MAX_BYTES
        assert html.count("<script") == 1 and "//" not in " ".join(re.findall(r'(?:src|href)="([^"]*)"', html))
        assert all(
            name.partition(".")[0] != noun or escape(operation.doc.partition("`")[0][:20]) in html
            for name, operation in QUERIES.items()
        )


def test_anonymous_docs_request_redirects_to_the_login(browser: Browser) -> None:
    assert browser.get("/api/docs").location.startswith("/login")


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_other_api_routes_return_no_html(app: Flask, role: str) -> None:
    browser, headers = app.test_client(), bearer_headers(role)
    paths = {re.sub(r"<int:\w+>", "1", re.sub(r"<\w+>", "x", rule.rule)) for rule in app.url_map.iter_rules()}
    routes = [
        path for path in paths if path.startswith("/api/") and path != "/api/docs" and not path.endswith("/cleanup")
    ]
    for path in [*routes, "/api", "/api/", "/api//v1", "/api/v1/admin/runs/", "/api/docs/x"]:
        for method in ("GET", "POST", "DELETE", "PATCH", "OPTIONS"):
            answer = browser.open(path, method=method, headers=headers)
            assert "html" not in answer.headers.get("Content-Type", ""), f"{method} {path}"
            assert answer.status_code < 500 or answer.status_code == 503, f"{method} {path}"
