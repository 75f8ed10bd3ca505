"""`dewey alerts`: rules, notices and a test."""

import click

from admin.alerts import rule_status, text
from admin.cli.output import Command, Group, json_option, local_admin, print_json, print_lines, print_table
from admin.operations.registry import execute
from engine.models import as_json as json_of
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Notice

MAX_NOTICES = 10


@click.group("alerts", cls=Group)
def alerts_group() -> None:
    """List alert rules and notices, and send a test."""


@alerts_group.command("list", cls=Command)
@json_option
def list_alerts(as_json: bool) -> None:
    """List the rules and the latest notices. Exit code 1 if no alert watcher is running."""
    status, notices = rule_status.load_alerts_status(now()), alerts.newest_notices(MAX_NOTICES)
    if as_json:
        print_json({"rules": list(map(rule_data, status.rules)), "notices": list(map(notice_data, notices))})
    else:
        print_lines("Rules:")
        print_table(("rule", "state", "fires when", "seen"), [format_rule(rule) for rule in status.rules])
        print_lines("", "Latest notices:")
        print_table(("at", "channel", "state", "tries", "what"), [format_notice(notice) for notice in notices])
    if not status.watching:
        print_lines("warning: no alert watcher is running. Start one with `dewey watch`.", err=True)
    raise SystemExit(not status.watching)


def format_rule(rule: rule_status.RuleStatus) -> tuple[str | None, ...]:
    seen = "; ".join(map(text.alert_sentence, rule.alerts)) or rule.seen
    return rule.rule, rule.state, rule.threshold or None, seen or None


def rule_data(rule: rule_status.RuleStatus) -> dict[str, object]:
    firing = [json_of(alert, "open_as") for alert in rule.alerts]
    return {"rule": rule.rule, "state": rule.state, "fires_when": rule.threshold, "seen": rule.seen, "alerts": firing}


def format_notice(notice: Notice) -> tuple[object, ...]:
    return (
        notice.created_at,
        notice.channel,
        notice.error or notice.state,
        notice.tries,
        text.build_message(notice).text,
    )


def notice_data(notice: Notice) -> dict[str, object]:
    return {**json_of(notice), "text": text.build_message(notice).text}


@alerts_group.command("test", cls=Command)
def test() -> None:
    """Send a test through every configured channel. Exit code 1 if one fails."""
    tried = execute(local_admin(), "alerts.test")
    for result in tried:
        print_lines(f"{result.channel}: {result.error or 'sent'}")
    raise SystemExit(any(result.error for result in tried))


COMMANDS = (alerts_group,)
