"""The commands of the terminal, one file per noun."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the supervisor imports this package and needs no Flask
    from flask import Flask


def register(app: "Flask") -> None:
    from admin.cli import commands  # the supervisor needs no commands

    commands.register(app)
