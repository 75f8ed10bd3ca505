"""`dewey <noun> <verb>` for every action and query that has no hand-written command."""

import inspect
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import click

from admin.api.routes import serialize_result
from admin.cli.output import (
    Command,
    Group,
    json_option,
    local_admin,
    print_facts,
    print_json,
    print_lines,
    print_table,
    repeat,
    watch_option,
)
from admin.cli.query import run_query
from admin.cli.steering import cancelled_text
from admin.operations.arguments import JSONList, JSONObject, Secret
from admin.operations.queries import QUERIES, Query
from admin.operations.registry import ACTIONS, Action, execute
from admin.operations.schemas import Schema
from config import QUEUES

#: Nouns whose group has another name, and actions with a top-level command.
GROUPS = {"operators": "operator", "tokens": "token"}
TOP_LEVEL = {"tasks.run": "run-task", "library.demo": "demo"}

#: Sentences about the returned word or id and the subject.
RESULT_TEXT: dict[str, Callable[[str, str], str]] = {
    "runs.cancel": cancelled_text,
    "runs.delete": "Run {} deleted.".format,
    "runs.retry": "Run {} re-queued.".format,
}

HELP = {
    "history": "List events that could not be written to the history.",
    "me": "Manage your own password and sessions. For signed-in users only.",
    "runs": "List, show, cancel, retry, repeat and delete runs.",
    "sessions": "List, show and close reading sessions.",
    "views": "Manage saved filters of the list of runs.",
}

#: Types that are typed as JSON.
JSON_TYPES = (JSONObject | None, JSONList | None)

#: Queries with the option --watch.
WATCHABLE = ("runs.list",)


def add_commands(cli: click.Group) -> None:
    for read in QUERIES.values():
        add_command(cli, read.noun, read.verb, partial(query_command, read))
    for action in ACTIONS.values():
        if action.name not in TOP_LEVEL:
            add_command(cli, action.noun, action.verb, partial(action_command, action))


def add_command(cli: click.Group, noun: str, verb: str, make: Callable[[], click.Command]) -> None:
    name = GROUPS.get(noun, noun)
    group = cli.commands.get(name)
    if not isinstance(group, click.Group):
        group = Group(name, help=HELP.get(name, f"Manage {noun}."))
        cli.add_command(group)
    if verb not in group.commands:
        group.add_command(make(), verb)


# --- queries -------------------------------------------------------------------------------------------------


def query_command(read: Query) -> click.Command:
    parameters: list[click.Parameter] = [make_argument(name) for name in read.path_params]
    for name, kind in read.query_params.items():
        parameters.append(query_option(name, kind, read.default(name)))

    def answer(as_json: bool, watch_every: float | None = None, **arguments: Any) -> None:
        in_path = {name: arguments.pop(name) for name in read.path_params}
        repeat(lambda: show_result(read, run_query(read.name, in_path, arguments), as_json), watch_every)

    command = Command(read.verb, callback=answer, params=parameters, help=read.doc)
    command = watch_option(command) if read.name in WATCHABLE else command
    return json_option(command)


def show_result(read: Query, answer: JSONObject, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    lists = [name for name, value in answer.items() if isinstance(value, list)]
    if len(lists) == 1 and read.verb != "show":
        print_remarks({name: value for name, value in answer.items() if name not in (*lists, "next")})
        rows = answer[lists[0]]
        titles = read.columns or list(dict.fromkeys(name for row in rows for name in row))
        print_table(titles, [[row.get(title) for title in titles] for row in rows])
        if answer.get("next"):
            print_lines(f"more: --{read.cursor} {answer['next']}", err=True)
        return
    print_facts(answer)


def print_remarks(facts: JSONObject) -> None:
    """Print the facts about the whole list, above it."""
    if any(value is not None for value in facts.values()):
        print_facts(facts)
        print_lines("")


def query_option(name: str, kind: object, default: object) -> click.Option:
    schema: Schema = {}
    if get_origin(kind) is Annotated:
        kind, schema = get_args(kind)[0], get_args(kind)[1]
    help_text = schema.get("description", "").replace("`", "")
    words = schema.get("enum") or (get_args(kind) if get_origin(kind) is Literal else None)
    if words:
        return click.Option(
            [f"--{name}"], type=click.Choice([str(word) for word in words if word != ""]), help=help_text
        )
    if kind is int:
        return click.Option(
            [f"--{name}"],
            type=click.IntRange(schema.get("minimum"), schema.get("maximum")),
            help=help_text or f"[default: {default}]",
        )
    return click.Option([f"--{name}"], multiple=get_origin(kind) is list, help=help_text)


# --- actions -------------------------------------------------------------------------------------------------


def action_command(action: Action) -> click.Command:
    subject = action.subject and action.subject.name
    parameters: list[click.Parameter] = [
        make_argument(parameter.name) if parameter.name == subject else make_option(parameter)
        for parameter in action.parameters
    ]
    if action.danger:
        parameters.append(click.Option(["--yes"], is_flag=True, help="Skip the confirmation."))

    def answer(as_json: bool, yes: bool = True, **arguments: Any) -> None:
        if not yes:
            click.confirm(f"{action.doc.partition('.')[0]}. Continue?", abort=True)
        read = {name: read_option(action, name, value) for name, value in arguments.items() if value is not None}
        serialized = serialize_result(execute(local_admin(), action.name, **read))
        if as_json:
            print_json(serialized)
        else:
            text, sentence = one_line(serialized["result"]), RESULT_TEXT.get(action.name)
            print_lines(sentence(text, str(arguments[subject])) if sentence and subject else text)

    return json_option(Command(action.verb, callback=answer, params=parameters, help=action.doc.replace("`", "")))


def one_line(result: object) -> str:
    if isinstance(result, dict) and set(result) == {"run_id"}:
        return str(result["run_id"])
    if result is None or result is True:
        return "Done."
    return "Nothing to do." if result is False else result if isinstance(result, str) else json.dumps(result)


def make_argument(name: str) -> click.Argument:
    kind = click.Choice(QUEUES) if name == "queue" else None
    return click.Argument([name], metavar=None if kind else name.upper(), type=kind)


def make_option(parameter: inspect.Parameter) -> click.Option:
    name = parameter.name.replace("_", "-")
    if parameter.annotation is bool:
        return click.Option([f"--{name}", parameter.name], is_flag=True, default=None)
    if is_secret_option(parameter):
        return click.Option(
            [f"--{name}-stdin", parameter.name],
            is_flag=True,
            default=None,
            help="Read it from the first line of standard input.",
        )
    metavar = "JSON" if parameter.annotation in JSON_TYPES else None
    return click.Option([f"--{name}", parameter.name], required=parameter.default is parameter.empty, metavar=metavar)


def is_secret_option(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is Secret or Secret in get_args(parameter.annotation)


def read_option(action: Action, name: str, value: Any) -> Any:
    """Return the typed value: a secret from standard input, an object or a list from JSON. Raises BadParameter."""
    parameter = next(parameter for parameter in action.parameters if parameter.name == name)
    if is_secret_option(parameter):
        return sys.stdin.readline().rstrip("\r\n")
    if parameter.annotation not in JSON_TYPES:
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter("must be JSON", param_hint=f"--{name}") from error
