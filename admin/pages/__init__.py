"""Pages of the console, one file per page."""

from flask import Flask

# Importing a group registers its pages on the blueprint.
from admin.pages import blueprint, library, live_refresh, queues, runs, system  # noqa: F401
from admin.pages.people import preferences


def register(app: Flask) -> None:
    live_refresh.register(app)
    for part in (blueprint, preferences):
        app.register_blueprint(part.blueprint)
