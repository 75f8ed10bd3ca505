"""One thing as a person reads it: names and values in two columns; below them, what has lines or parts of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from admin.terminal import instant, shown, table_lines

#: So many characters of a list or an object stay beside its name, and of a table's line on a screen.
BESIDE, ACROSS = 80, 120
STEP = "  "
#: What a task was given and gave back: a None in it says something.
DATA = ("args", "kwargs", "result")


def print_facts(facts: Mapping[str, Any]) -> None:
    for line in fact_lines(known(facts)):
        click.echo(line)


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """What is None in a record that is held by another is left out."""
    facts = {name: tidied(name, value) for name, value in facts.items()}
    beside = {name: value for name, value in facts.items() if fits(value)}
    below = {name: lines_of(value, name in DATA) for name, value in facts.items() if name not in beside}
    width = max(map(len, map(shown, beside)), default=0)
    lines = [f"{shown(name):{width}}  {shown(value)}".rstrip() for name, value in beside.items()]
    for name, part in below.items():
        lines += [f"{shown(name)}:", *(f"{STEP}{line}".rstrip() for line in part)]
    return lines


def tidied(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.rstrip("\n")
    return known(value) if isinstance(value, dict) and name not in DATA else value


def known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def fits(value: Any) -> bool:
    """Whether it stands on its name's line. Text does unless it has lines; an instant inside is told as one below."""
    if isinstance(value, str):
        return "\n" not in value
    if not isinstance(value, list | dict) or not value:
        return True
    inner = list(value.values()) if isinstance(value, dict) else value
    of_records = isinstance(value, list) and any(inner) and all(isinstance(one, dict) for one in inner)
    return not of_records and len(shown(value)) <= BESIDE and all(fits(one) and not instant(one) for one in inner)


def lines_of(value: Any, is_data: bool = False) -> list[str]:
    """`is_data`: each None in it is told."""
    if isinstance(value, str):
        return [shown(line.expandtabs(4)) for line in value.replace("\r\n", "\n").split("\n")]
    if isinstance(value, dict):
        return fact_lines(value)
    if all(isinstance(one, dict) for one in value):
        return record_lines(value if is_data else list(map(known, value)))
    return [line for one in value for line in ([shown(one)] if fits(one) else lines_of(one, is_data))]


def record_lines(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table where it has room, else one record below the other with a dash before each."""
    titles = list(dict.fromkeys(name for one in told for name in one))
    if all(fits(value) for one in told for value in one.values()):
        table = table_lines(titles, [[one.get(title) for title in titles] for one in told])
        if max(map(len, table)) <= ACROSS:
            return table
    return [line for one in told for line in marked(fact_lines(one))]


def marked(lines: list[str]) -> list[str]:
    return [f"{'- ' if at == 0 else STEP}{line}".rstrip() for at, line in enumerate(lines)]
