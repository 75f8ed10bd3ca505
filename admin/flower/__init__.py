"""Flower's API, for scripts that use it."""

from flask import Flask

# They put views on the API's blueprint by being imported.
from admin.flower import actions, views  # noqa: F401


def register(app: Flask) -> None:
    """Nothing is left to do: its views stand on the API's blueprint, which is registered next."""
