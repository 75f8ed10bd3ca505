"""JSON under /api, its description, health checks and metrics."""

from flask import Flask

# Importing some of these adds views to the blueprint.
from admin.api import blueprint, books, cleanup, health, metrics, openapi, request_metrics, routes  # noqa: F401


def register(app: Flask) -> None:
    for part in (request_metrics, routes):
        part.register(app)
    for part in (blueprint, metrics):
        app.register_blueprint(part.blueprint)
