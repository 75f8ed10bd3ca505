"""`dewey audit`: the audit log."""

import click

from admin.audit_log import verify_chain
from admin.cli.output import Group, json_option, print_json, print_lines, print_table
from admin.operations.audit import audit_entries
from engine.models import as_json as row_as_json
from models import AuditEntry


@click.group(cls=Group)
def audit() -> None:
    """List and verify the audit log. Times are UTC."""


@audit.command("list")
@click.option("--actor", help="The user, token or local account that did it.")
@click.option("--action", help="The action, such as runs.cancel.")
@click.option("--target", help="The run, queue, user… that it was done to.")
@click.option("--source", type=click.Choice(["web", "api", "cli"]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def list_audit(
    actor: str | None, action: str | None, target: str | None, source: str | None, limit: int, as_json: bool
) -> None:
    """List entries, newest first."""
    query = audit_entries(actor=actor, action=action, target=target, source=source)
    rows = [row_as_json(entry) for entry in query.order_by(AuditEntry.id.desc()).limit(limit)]
    if as_json:
        print_json(rows)
        return
    titles = ("id", "at", "actor", "source", "action", "target", "before", "after")
    print_table(titles, [[row[title] for title in titles] for row in rows])


@audit.command("verify")
@click.option("--since", type=click.IntRange(0), default=0, metavar="ID", help="The first row to verify.")
@click.option("--head", metavar="HASH", help="A hash printed earlier. The log must still contain it.")
@json_option
def verify_audit(since: int, head: str | None, as_json: bool) -> None:
    """Verify the hash chain. Exit code 1 if a row was changed, removed or inserted.

    Store the printed hash elsewhere. With --head it reveals a log that was replaced as a whole.
    Rows from before a change of SECRET_KEY are verified with the keys of SECRET_KEY_OLD.
    """
    report = verify_chain(since, head)
    if as_json:
        print_json(report._asdict() | {"findings": [finding._asdict() for finding in report.findings]})
    else:
        for finding in report.findings:
            print_lines(finding.message)
        intact_count = report.rows - len(
            {finding.row for finding in report.findings if finding.what in ("changed", "inserted")}
        )
        if report.former_key_rows:
            print_lines(f"{report.former_key_rows} rows are signed with a key of SECRET_KEY_OLD.")
        print_lines(f"{intact_count} rows verified. Last id {report.last_id}, hash {report.head}")
    raise SystemExit(bool(report.findings))


COMMANDS = (audit,)
