"""The example at the end of a command's help."""

import click

#: Values of required parameters by name.
VALUES = {
    "book_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "bulk_id": "12",
    "email": "anna@example.org",
    "error_id": "4f1d0a6c2b9e",
    "file": "war-and-peace.epub",
    "files": "war-and-peace.epub",
    "fingerprint": "9c1f52e07ab4",
    "name": "get_cleanup_statistics",
    "number": "1",
    "queue": "light",
    "role": "operator",
    "run_id": "8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52",
    "session": "3fa94c2e81d05b67",
    "session_id": "0b7cf0d2-6a0e-4f0c-9a53-1c9c5d8f2e41",
    "task": "close_abandoned_sessions",
    "view_id": "3",
    "worker": "light@server-1:4711",
}

#: Whole arguments, by command, where options matter or a value is another one.
ARGUMENTS = {
    "audit list": "--actor anna@example.org --limit 20",
    "audit verify": "--since 1200",
    "bulk cancel": "--search 'state:waiting task:process_book'",
    "bulk delete": "--search 'state:succeeded before:30d'",
    "bulk preflight": "--search 'state:failed ended:24h'",
    "bulk retry": "--search 'state:failed ended:24h'",
    "errors list": "--state all --task close_abandoned_sessions",
    "errors snooze": "4f1d0a6c2b9e --for 4h",
    "inspect active": "--json",
    "me password": "--old-stdin --new-stdin",
    "operator create": "anna@example.org --role operator",
    "operator role": "anna@example.org viewer",
    "pause": "light --reason 'database upgrade'",
    "queues pause": "light --reason 'database upgrade'",
    "queues head": "light --limit 20",
    "run-task": "get_cleanup_statistics hours=48 --wait",
    "runs again": "8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52 --arguments '{\"hours\": 48}'",
    "runs counts": "--task close_abandoned_sessions --last 24h",
    "runs list": "--state failed --last 24h",
    "schedule pause": "close_abandoned_sessions --for 4h --reason maintenance",
    "schedule ticks": "close_abandoned_sessions --state missed",
    "sessions list": "--state abandoned",
    "statistics runs": "--hours 168",
    "status": "--watch",
    "tasks pause": "close_abandoned_sessions --reason maintenance",
    "token create": "grafana --role viewer --days 365",
    "token revoke": "grafana",
    "views save": "--name 'Failed today' --search 'state:failed ended:24h'",
    "watch": "--once",
}


def example(context: click.Context) -> str:
    """Return the line to type. Raises KeyError if a required parameter has no example."""
    path = command_path(context)
    arguments = ARGUMENTS.get(path)
    if arguments is None:
        arguments = " ".join(map(required_text, filter(lambda param: param.required, context.command.params)))
    return f"dewey {path} {arguments}".rstrip()


def required_text(param: click.Parameter) -> str:
    value = VALUES[str(param.name)]
    return value if isinstance(param, click.Argument) else f"{param.opts[0]} {value}"


def command_path(context: click.Context) -> str:
    names: list[str] = []
    while context.parent:
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(names)
