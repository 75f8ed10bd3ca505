"""`flask why <id>`: why a run is not running, in the words of its page."""

from typing import Any

import click
import orjson
from flask import get_template_attribute
from markupsafe import Markup

import tasks
from admin.terminal import Command, fail, json_option, print_json
from engine.records import Run
from engine.why import Cause, why


@click.command("why", cls=Command)
@click.argument("run_id", metavar="ID")
@json_option
def why_command(run_id: str, as_json: bool) -> None:
    """Why a run is not running: everything that stands in its way, the main cause first."""
    run = Run.get_or_none(Run.id == run_id)
    if run is None:
        fail("no run has this id, or it is older than the history", 1)
    causes = why(tasks.queues, run)
    if as_json:
        print_json([as_data(cause) for cause in causes])
        return
    for cause in causes:
        click.echo(sentence(cause))


def as_data(cause: Cause) -> dict[str, Any]:
    """As JSON values; instants in ISO 8601 with offset."""
    return {"cause": cause.kind, "text": sentence(cause), **orjson.loads(orjson.dumps(cause.facts))}


def sentence(cause: Cause) -> str:
    """Without links, in one line."""
    words = get_template_attribute("_why.html", "cause")(cause.kind, cause.facts, links=False)
    return " ".join(Markup(words).striptags().split())
