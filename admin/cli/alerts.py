"""`flask alerts`: how each rule stands, what was told, and whether anybody can be told."""

import click

from admin.alerts import rule_status, text
from admin.cli.output import Command, Group, json_option, me, print_json, print_table
from admin.operations.registry import perform
from engine.models import as_json as json_of
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Notice

LATEST = 10


@click.group("alerts", cls=Group)
def alerts_group() -> None:
    """What is wrong, and who was told."""


@alerts_group.command("list", cls=Command)
@json_option
def list_alerts(as_json: bool) -> None:
    """How each rule stands, and the last notices. Exit code 1 while nobody watches."""
    found, notices = rule_status.board(now()), alerts.newest(LATEST)
    if as_json:
        print_json({"rules": list(map(rule_json, found.rules)), "notices": list(map(notice_json, notices))})
    else:
        click.echo("Rules:")
        print_table(("rule", "state", "fires when", "seen"), [rule_row(one) for one in found.rules])
        click.echo("\nThe last notices:")
        print_table(("at", "channel", "state", "tries", "what"), [notice_row(one) for one in notices])
    if not found.watching:
        click.echo("warning: nobody watches; start `flask watch`", err=True)
    raise SystemExit(not found.watching)


def rule_row(one: rule_status.Standing) -> tuple[str | None, ...]:
    seen = "; ".join(map(text.of_alert, one.alerts)) or one.seen
    return one.rule, one.state, one.threshold or None, seen or None


def rule_json(one: rule_status.Standing) -> dict[str, object]:
    firing = [json_of(alert, "open_as") for alert in one.alerts]
    return {"rule": one.rule, "state": one.state, "fires_when": one.threshold, "seen": one.seen, "alerts": firing}


def notice_row(one: Notice) -> tuple[object, ...]:
    return (
        one.created_at,
        one.channel,
        one.error or one.state,
        one.tries,
        text.message(one).text,
    )


def notice_json(one: Notice) -> dict[str, object]:
    return {**json_of(one), "text": text.message(one).text}


@alerts_group.command("test", cls=Command)
def test() -> None:
    """Send a test by every channel that is set up. Exit code 1 when one of them fails."""
    tried = perform(me(), "alerts.test")
    for one in tried:
        click.echo(f"{one.channel}: {one.error or 'sent'}")
    raise SystemExit(any(one.error for one in tried))


COMMANDS = (alerts_group,)
