"""`flask audit`: what was done by whom, and whether that list is as it was written."""

import click

from admin.audit_log import verify_chain
from admin.cli.output import Group, json_option, print_json, print_table
from admin.operations.audit import audit_entries
from engine.models import as_json as row_as_json
from models import AuditEntry


@click.group(cls=Group)
def audit() -> None:
    """Who did what to which, when and from where. Times are UTC."""


@audit.command("list")
@click.option("--actor", help="Done by this person, token or user of this machine.")
@click.option("--action", help="Of this kind, such as runs.cancel.")
@click.option("--target", help="Done to this run, queue, person…")
@click.option("--source", type=click.Choice(["web", "api", "cli"]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def list_audit(
    actor: str | None, action: str | None, target: str | None, source: str | None, limit: int, as_json: bool
) -> None:
    """The rows, the newest first."""
    query = audit_entries(actor=actor, action=action, target=target, source=source)
    rows = [row_as_json(entry) for entry in query.order_by(AuditEntry.id.desc()).limit(limit)]
    if as_json:
        print_json(rows)
        return
    titles = ("id", "at", "actor", "source", "action", "target", "before", "after")
    print_table(titles, [[row[title] for title in titles] for row in rows])


@audit.command("verify")
@click.option("--since", type=click.IntRange(0), default=0, metavar="ID", help="From this row on.")
@click.option("--head", metavar="HASH", help="A hash that was printed before: it must still be in the list.")
@json_option
def verify_audit(since: int, head: str | None, as_json: bool) -> None:
    """Whether a row was changed, removed or inserted, by the hashes that link them. Exit code 1 when one was.

    Keep the hash that is printed somewhere else: with --head it tells even of a list that was put back as a whole.
    """
    report = verify_chain(since, head)
    if as_json:
        print_json(report._asdict() | {"findings": [finding._asdict() for finding in report.findings]})
    else:
        for finding in report.findings:
            click.echo(finding.message)
        intact_count = report.rows - len(
            {finding.row for finding in report.findings if finding.what in ("changed", "inserted")}
        )
        click.echo(f"{intact_count} rows hold; the last one is {report.last_id}, its hash {report.head}")
    raise SystemExit(bool(report.findings))


COMMANDS = (audit,)
