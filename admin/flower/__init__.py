"""Flower's API, for scripts that use it."""

from flask import Flask

# Importing them adds views to the API's blueprint.
from admin.flower import actions, views  # noqa: F401


def register(app: Flask) -> None:
    """Do nothing: the API registers the blueprint with these views."""
