"""The pages of the console, one file per page."""

from flask import Flask

from admin.pages import blueprint, live_refresh
from admin.pages.library import session_charts, sessions
from admin.pages.people import account, audit, operators, preferences, tokens
from admin.pages.queues import queues, schedule, tasks, worker_actions, workers
from admin.pages.runs import bulk, dead_runs, errors, exports, run, run_actions, runs, saved_views
from admin.pages.system import alerts, api_docs, help, overview

#: Modules that put pages on the blueprint by being imported.
VIEWS = (
    session_charts,
    sessions,
    account,
    audit,
    operators,
    tokens,
    queues,
    schedule,
    tasks,
    worker_actions,
    workers,
    bulk,
    dead_runs,
    errors,
    exports,
    run,
    run_actions,
    runs,
    saved_views,
    alerts,
    api_docs,
    help,
    overview,
)


def register(app: Flask) -> None:
    live_refresh.register(app)
    for part in (blueprint, preferences):
        app.register_blueprint(part.blueprint)
