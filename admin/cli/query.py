"""Queries from the terminal, run as an HTTP request of the local user."""

from collections.abc import Mapping

from flask import current_app
from flask.cli import with_appcontext
from flask_babel import force_locale
from flask_login import login_user
from werkzeug.datastructures import MultiDict

from admin.api.routes import query_rule
from admin.cli.output import local_admin
from admin.operations.arguments import JSONObject
from admin.operations.queries import MAX_LIMIT, QUERIES


@with_appcontext
def run_query(
    name: str, in_path: Mapping[str, str] | None = None, parameters: Mapping[str, object] | None = None
) -> JSONObject:
    """Return the answer as JSON data. Raises what the query raises."""
    many = {
        name: [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
        for name, value in (parameters or {}).items()
        if value is not None
    }
    query: MultiDict[str, str] = MultiDict(many)
    with current_app.test_request_context(query_rule(QUERIES[name]), query_string=query), force_locale("en"):
        login_user(local_admin(), force=True)
        return QUERIES[name].run(in_path or {}, query)


def query_rows(name: str, limit: int, parameters: Mapping[str, object]) -> list[JSONObject]:
    """Return the first `limit` rows of a list, loaded page by page."""
    read, rows, cursor = QUERIES[name], list[dict[str, object]](), None
    while len(rows) < limit:
        answer = run_query(
            name, parameters={**parameters, "limit": min(limit - len(rows), MAX_LIMIT), str(read.cursor): cursor}
        )
        rows += answer[read.noun]
        cursor = answer["next"]
        if not cursor:
            break
    return rows
