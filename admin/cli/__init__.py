"""The commands of `flask`, one file per noun."""

from typing import Any


def register(app: Any) -> None:
    from admin.cli import commands  # here: the supervisor runs from this room, and does without Flask and the commands

    commands.register(app)
