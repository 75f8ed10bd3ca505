"""Flower's API, for scripts that use it."""

from flask import Flask

from admin.flower import actions, views

#: Modules that put views on the API's blueprint by being imported.
VIEWS = (actions, views)


def register(app: Flask) -> None:
    """Nothing is left to do: its views stand on the API's blueprint, which is registered next."""
