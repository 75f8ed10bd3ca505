"""JSON under /api, its description, health checks and metrics."""

from flask import Flask

# Some put views on the blueprint by being imported.
from admin.api import blueprint, cleanup, health, metrics, openapi, request_metrics, routes  # noqa: F401


def register(app: Flask) -> None:
    for part in (request_metrics, routes):
        part.register(app)
    for part in (blueprint, metrics):
        app.register_blueprint(part.blueprint)
