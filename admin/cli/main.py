"""The command `dewey`: the commands of the program, without those of Flask."""

import click
from flask import Flask

PROGRAM = "dewey"

#: The commands of the help by section. A command that is not named comes last, under "Other".
SECTIONS = {
    "Program": ("start", "status", "watch", "migrate", "demo"),
    "Runs": ("run-task", "why", "retry", "cancel", "runs", "bulk", "dead", "errors", "views", "history"),
    "Queues and schedules": ("pause", "resume", "purge", "queues", "tasks", "schedule"),
    "Workers": ("workers", "inspect"),
    "Reading sessions and books": ("sessions", "books"),
    "Monitoring": ("alerts", "statistics"),
    "People and access": ("operator", "token", "me", "audit"),
}

EPILOG = f"`{PROGRAM} COMMAND --help` describes a command. Exit codes: 0 success, 1 failure, 2 wrong usage or setting."


class Dewey(click.Group):
    """The commands that `application` has registered. Each runs in its context."""

    def __init__(self, application: Flask) -> None:
        help_text = "Manage Dewey: its runs, queues, schedules, workers and users."
        super().__init__(PROGRAM, commands=application.cli.commands, help=help_text, epilog=EPILOG)
        self.application = application

    def invoke(self, ctx: click.Context) -> object:
        ctx.with_resource(self.application.app_context())
        return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {title: [name for name in names if name in self.commands] for title, names in SECTIONS.items()}
        placed = {name for names in sections.values() for name in names}
        sections["Other"] = sorted(self.commands.keys() - placed)
        width = max(map(len, self.commands))
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    limit = formatter.width - width - 6
                    formatter.write_dl(
                        [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in names]
                    )


def main(application: Flask) -> None:
    """Run the command of the command line and exit. `bin/dewey` calls this."""
    Dewey(application)(prog_name=PROGRAM)
