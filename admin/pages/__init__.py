"""The pages of the console, one file per page."""

from flask import Flask

# Each group puts its pages on the blueprint by being imported.
from admin.pages import blueprint, library, live_refresh, queues, runs, system  # noqa: F401
from admin.pages.people import preferences


def register(app: Flask) -> None:
    live_refresh.register(app)
    for part in (blueprint, preferences):
        app.register_blueprint(part.blueprint)
