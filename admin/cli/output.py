"""Output of commands: an error line, a table, facts or JSON. Also their exit codes."""

import getpass
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
from werkzeug.exceptions import HTTPException, UnprocessableEntity

from admin.auth.identity import Actor
from admin.cli.examples import example
from admin.problems import KNOWN_ERRORS, to_http_error
from engine.database import release_connection
from engine.exceptions import UnknownTask
from engine.migrations import MigrationFailed
from engine.text import UNSAFE, escape_controls

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_option = click.option(
    "--watch",
    "watch_every",
    type=click.FloatRange(0.2, 3600),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Refresh until Ctrl-C, every 2 seconds without a number.",
)


INSTANT_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")

#: Most characters of a value beside its name, and of a line of a table.
BESIDE, ACROSS = 80, 120
INDENT = "  "
#: Arguments and result of a task. A None in them is data, so it is printed.
DATA_INDENT = ("args", "kwargs", "result")


class Command(click.Command):
    """Exit with 1 if the command is refused or fails, with 2 if it is misused. Print one line, no traceback."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Example"):
            formatter.write(f"{' ' * formatter.current_indent}{example(ctx)}\n")  # write_text would wrap it

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (UnknownTask, MigrationFailed) as error:
            fail(str(error), 2 if isinstance(error, UnknownTask) else 1)
        except HTTPException as error:
            fail(str(error.description), 2 if isinstance(error, UnprocessableEntity) else 1)
        except KNOWN_ERRORS as error:
            answer = to_http_error(error)
            if answer.code == 500:
                raise
            fail(str(answer.description), 2 if isinstance(answer, UnprocessableEntity) else 1)


class Group(click.Group):
    command_class = Command


def local_admin() -> Actor:
    """Return the current user of this machine as an admin."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Actor("cli", name, "admin", "cli")


def repeat(show: Callable[[], object], every: float | None) -> object:
    """Call `show` once, or every `every` seconds until Ctrl-C. While repeating, print known errors and continue."""
    if not every:
        return show()
    try:
        while True:
            if sys.stdout.isatty():
                click.clear()
            try:
                show()
            except KNOWN_ERRORS as error:
                print_lines(f"dewey: {to_http_error(error).description}", err=True)
            release_connection()
            time.sleep(every)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def print_lines(*lines: object, err: bool = False) -> None:
    """Print each value as one line. Everything that a command prints goes through here.

    A terminal obeys control characters, so they are escaped, and line breaks within a line too.
    """
    for line in lines:
        click.echo(escape_controls(str(line)), err=err)


def fail(message: str, code: int) -> NoReturn:
    print_lines(f"dewey: {message}", err=True)
    raise SystemExit(code)


def print_json(value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo("\n".join(UNSAFE.sub(json_escape, line) for line in text.split("\n")))


def json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print numbers to the right, None as a dash, and `none` without rows."""
    print_lines(*(table_lines(titles, rows) if rows else ["none"]))


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    table = [[format_cell(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [is_numeric([row[at] for row in rows]) for at in range(len(titles))]
    return ["  ".join(map(pad_cell, cells, widths, numeric)).rstrip() for cells in table]


def print_listing(data: object, as_json: bool, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if as_json:
        print_json(data)
    else:
        print_table(titles, rows)


def is_numeric(cells: Sequence[object]) -> bool:
    values = [cell for cell in cells if cell is not None]
    return bool(values) and all(isinstance(cell, int | float) for cell in values)


def pad_cell(cell: str, width: int, to_the_right: bool) -> str:
    return cell.rjust(width) if to_the_right else cell.ljust(width)


def format_cell(cell: object) -> str:
    """Return one printable line: an instant in UTC to the second, a number with few digits."""
    if isinstance(cell, float):
        return format_number(cell)
    at = format_instant(cell)
    if at:
        return f"{at:%Y-%m-%d %H:%M:%S}"
    text = "–" if cell is None else cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
    return escape_controls(text)


def format_number(value: float) -> str:
    """Return one decimal, or three significant digits below 1."""
    text = f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"
    return text.removesuffix(".0")


def format_instant(cell: object) -> datetime | None:
    """Return the instant in UTC. None if the text is not exactly an instant with an offset."""
    try:
        at = datetime.fromisoformat(cell) if isinstance(cell, str) and INSTANT_PATTERN.fullmatch(cell) else cell
        return at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo else None
    except (ValueError, OverflowError):  # 31 February, or past year 9999 in UTC
        return None


def print_facts(facts: Mapping[str, object]) -> None:
    print_lines(*fact_lines(without_nones(facts)))


def fact_lines(facts: Mapping[str, object]) -> list[str]:
    """Return lines of `name  value`. A None in a nested record is left out."""
    facts = {name: clean(name, value) for name, value in facts.items()}
    beside = {name: value for name, value in facts.items() if fits_inline(value)}
    below = {name: value_lines(value, name in DATA_INDENT) for name, value in facts.items() if name not in beside}
    width = max(map(len, map(format_cell, beside)), default=0)
    lines = [f"{format_cell(name):{width}}  {format_cell(value)}".rstrip() for name, value in beside.items()]
    for name, part in below.items():
        lines += [f"{format_cell(name)}:", *(f"{INDENT}{line}".rstrip() for line in part)]
    return lines


def clean(name: str, value: object) -> object:
    if isinstance(value, str):
        return value.rstrip("\n")
    return without_nones(value) if isinstance(value, dict) and name not in DATA_INDENT else value


def without_nones(facts: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in facts.items() if value is not None}


def fits_inline(value: object) -> bool:
    """True if the value fits beside its name. Text with line breaks and lists with instants do not."""
    if isinstance(value, str):
        return "\n" not in value
    if not isinstance(value, list | dict) or not value:
        return True
    inner = list(value.values()) if isinstance(value, dict) else value
    of_records = isinstance(value, list) and any(inner) and all(isinstance(item, dict) for item in inner)
    return (
        not of_records
        and len(format_cell(value)) <= BESIDE
        and all(fits_inline(item) and not format_instant(item) for item in inner)
    )


def value_lines(value: Any, is_data: bool = False) -> list[str]:
    """Return the lines below a name. With `is_data`, None is printed."""
    if isinstance(value, str):
        return [format_cell(line.expandtabs(4)) for line in value.replace("\r\n", "\n").split("\n")]
    if isinstance(value, dict):
        return fact_lines(value)
    if all(isinstance(item, dict) for item in value):
        return record_lines(value if is_data else list(map(without_nones, value)))
    return [
        line for item in value for line in ([format_cell(item)] if fits_inline(item) else value_lines(item, is_data))
    ]


def record_lines(records: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a table if it fits, else the records one below the other, each after a dash."""
    titles = list(dict.fromkeys(name for record in records for name in record))
    if all(fits_inline(value) for record in records for value in record.values()):
        table = table_lines(titles, [[record.get(title) for title in titles] for record in records])
        if max(map(len, table)) <= ACROSS:
            return table
    return [line for record in records for line in bulleted(fact_lines(record))]


def bulleted(lines: list[str]) -> list[str]:
    return [f"{'- ' if at == 0 else INDENT}{line}".rstrip() for at, line in enumerate(lines)]
