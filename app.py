"""The web program: `create_app()` puts sign-in, pages, API and commands together."""

from flask import Flask

from admin import (
    access,
    actions,
    alerts_page,
    api,
    api_docs,
    audit_page,
    bulk,
    bulk_deeds,
    cli,
    console,
    dead,
    display,
    error_deeds,
    errors_page,
    exports,
    flower,
    flower_commands,
    headers,
    help,
    json_api,
    live,
    me_page,
    metrics,
    openapi,
    operators_page,
    overview,
    people,
    preferences,
    preferences_page,
    problems,
    queues_page,
    read_bulk,
    read_errors,
    read_history,
    read_people,
    read_queues,
    read_runs,
    read_sessions,
    read_tasks,
    run,
    run_commands,
    runs,
    schedule,
    session_charts,
    sessions,
    sign_in,
    tasks_page,
    tokens_page,
    traffic,
    view_deeds,
    views,
    worker_orders,
    workers_page,
)
from config import settings
from engine import database

#: Modules that declare pages and commands by being imported.
DECLARING = (
    actions,
    alerts_page,
    api_docs,
    audit_page,
    bulk,
    bulk_deeds,
    dead,
    error_deeds,
    errors_page,
    exports,
    flower,
    flower_commands,
    help,
    me_page,
    openapi,
    operators_page,
    overview,
    people,
    queues_page,
    read_bulk,
    read_errors,
    read_history,
    read_people,
    read_queues,
    read_runs,
    read_sessions,
    read_tasks,
    run,
    run_commands,
    runs,
    schedule,
    session_charts,
    sessions,
    tasks_page,
    tokens_page,
    view_deeds,
    views,
    worker_orders,
    workers_page,
)


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = settings.secret_key
    app.config.update(MAX_CONTENT_LENGTH=1 << 20)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.context_processor(lambda: {"environment": settings.environment})
    for part in (traffic, headers, access, preferences, display, live, sign_in, problems, json_api, cli):
        part.register(app)
    for part in (console, preferences_page, api, metrics):
        app.register_blueprint(part.blueprint)
    app.teardown_appcontext(lambda error: database.release())
    return app
