"""The web program: `create_app()` puts sign-in, pages, API and commands together."""

from flask import Flask

from admin import (
    access,
    actions,
    api,
    api_docs,
    bulk,
    cli,
    console,
    dead,
    exports,
    flower,
    flower_commands,
    headers,
    json_api,
    live,
    measures,
    openapi,
    overview,
    preferences,
    problems,
    queues_page,
    read_bulk,
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
    views,
    worker_orders,
    workers_page,
)
from config import settings
from engine import database

#: Modules that declare pages and commands by being imported.
DECLARING = (
    actions,
    api_docs,
    bulk,
    dead,
    exports,
    flower,
    flower_commands,
    measures,
    openapi,
    overview,
    queues_page,
    read_bulk,
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
    for part in (headers, access, preferences, live, sign_in, problems, json_api, cli):
        part.register(app)
    for part in (console, api):
        app.register_blueprint(part.blueprint)
    app.teardown_appcontext(lambda error: database.release())
    return app
