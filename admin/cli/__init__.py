"""The commands of `flask`, one file per noun."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the supervisor runs from this room, and does without Flask
    from flask import Flask


def register(app: "Flask") -> None:
    from admin.cli import commands  # here: the supervisor does without the commands too

    commands.register(app)
