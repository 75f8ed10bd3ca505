"""The pages of the console, one file per page."""

from flask import Flask

from admin.pages import blueprint, library, live_refresh, people, queues, runs, system

#: Each group puts its pages on the blueprint by being imported.
VIEWS = (library, people, queues, runs, system)


def register(app: Flask) -> None:
    live_refresh.register(app)
    for part in (blueprint, people.preferences):
        app.register_blueprint(part.blueprint)
