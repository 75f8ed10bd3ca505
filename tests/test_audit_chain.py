"""The audit log is append-only and detects manipulation."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import create_app_with_people
from databases import bind_database
from flask import Flask
from peewee import DatabaseError
from playhouse.migrations import Runner

from admin import audit_log
from admin.audit_log import append_entries, verify_chain
from config import ROOT
from engine import hash_chain
from engine.database import database, on_postgresql, release_connection
from engine.migrations import migrate
from models import AuditEntry, AuditHead


def add_rows(count: int = 6) -> None:
    for number in range(count):
        add_row(f"tasks.{number}")


def add_row(action: str = "tasks.run", **values: Any) -> AuditEntry:
    return append_entries(actor_kind="operator", actor="vera", source="web", action=action, **values)


def tamper(sql: str) -> None:
    """Change rows as an attacker with the database but without the key."""
    if on_postgresql():
        database.execute_sql("ALTER TABLE dewey_audit DISABLE TRIGGER USER")
    else:
        for verb in ("update", "delete"):
            database.execute_sql(f"DROP TRIGGER IF EXISTS dewey_audit_no_{verb}")
    database.execute_sql(sql)


def list_findings() -> list[tuple[int | None, str]]:
    return [(finding.row, finding.what) for finding in verify_chain().findings]


# --- appending -----------------------------------------------------------------------------------------------


def test_rows_form_a_valid_hash_chain(each_database: str) -> None:
    add_rows()
    add_row("bulk.retry", before={"a": 1.5, "b": None}, after=["ü \ud800", {"deep": [True]}], target="№ 5")
    rows = list(AuditEntry.select().order_by(AuditEntry.id))
    assert [row.id for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.previous for row in rows] == [hash_chain.START, *(row.hash for row in rows[:-1])]
    report = verify_chain()
    assert (report.rows, report.last_id, report.head, report.findings) == (7, 7, rows[-1].hash, [])


def test_empty_audit_is_valid(each_database: str) -> None:
    assert verify_chain().findings == []


def test_concurrent_writers_form_one_chain(each_database: str) -> None:
    def some() -> None:
        add_rows(10)
        release_connection()

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (verify_chain().rows, verify_chain().findings) == (40, [])


def test_rolled_back_row_leaves_no_gap(each_database: str) -> None:
    add_rows(2)
    with pytest.raises(ZeroDivisionError), database.atomic():
        add_row()
        _ = 1 / 0
    add_rows(1)
    assert (verify_chain().last_id, verify_chain().findings) == (3, [])


@pytest.mark.parametrize(
    "sql", ["UPDATE dewey_audit SET actor = 'x'", "DELETE FROM dewey_audit", "DELETE FROM dewey_audit WHERE id = 2"]
)
def test_database_refuses_to_update_or_delete_audit_rows(each_database: str, sql: str) -> None:
    add_rows(3)
    with pytest.raises(DatabaseError, match="only grows"):
        database.execute_sql(sql)
    if on_postgresql():
        database.rollback()
    assert (verify_chain().rows, verify_chain().findings) == (3, [])


def test_only_append_writes_audit_rows() -> None:
    """A row that was not written by `append_entries` has no hash."""
    files = [file for room in ("admin", "engine", "reading") for file in (ROOT / room).rglob("*.py")]
    writing = re.compile(r"AuditEntry(\.(create|insert|insert_many|update|delete|replace)\b|\()")
    assert [str(file.relative_to(ROOT)) for file in files if writing.search(file.read_text())] == ["admin/audit_log.py"]


# --- manipulation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'another user'",
        "at = '2020-01-01 00:00:00+00:00'",
        "action = 'sign_in'",
        "target = 'another'",
        "after = '{}'",
        "address = '127.0.0.1'",
        "hash = previous",
        "previous = hash",
    ],
)
def test_changed_row_is_reported(each_database: str, change: str) -> None:
    add_rows()
    tamper(f"UPDATE dewey_audit SET {change} WHERE id = 3")
    assert list_findings() == [(3, "changed")]


@pytest.mark.parametrize("row", [1, 6])
def test_changed_first_or_last_row_is_reported(each_database: str, row: int) -> None:
    add_rows()
    tamper(f"UPDATE dewey_audit SET actor = 'x' WHERE id = {row}")
    assert list_findings() == [(row, "changed")]


def test_all_changed_rows_are_reported(each_database: str) -> None:
    add_rows()
    tamper("UPDATE dewey_audit SET actor = 'x' WHERE id IN (2, 3, 5)")
    assert list_findings() == [(2, "changed"), (3, "changed"), (5, "changed")]


@pytest.mark.parametrize(("gone", "expected"), [("3", "row 3 was removed"), ("2, 3, 4", "row 2 to 4 was removed")])
def test_removed_rows_are_reported(each_database: str, gone: str, expected: str) -> None:
    add_rows()
    tamper(f"DELETE FROM dewey_audit WHERE id IN ({gone})")
    (finding,) = verify_chain().findings
    assert finding.what == "removed" and expected in finding.message


def test_removed_first_row_is_reported(each_database: str) -> None:
    add_rows()
    tamper("DELETE FROM dewey_audit WHERE id = 1")
    (finding,) = verify_chain().findings
    assert "row 1 was removed" in finding.message


@pytest.mark.parametrize(
    ("kept", "expected"), [(5, "row 6 was removed"), (3, "row 4 to 6 was removed"), (0, "row 1 to 6")]
)
def test_truncated_rows_are_reported(each_database: str, kept: int, expected: str) -> None:
    add_rows()
    tamper(f"DELETE FROM dewey_audit WHERE id > {kept}")
    (finding,) = verify_chain().findings
    assert finding.what == "cut off" and expected in finding.message


INSERT = (
    "INSERT INTO dewey_audit (id, at, actor_kind, actor, source, action, previous, hash)"
    " SELECT {id}, at, actor_kind, actor, source, action, {previous}, {hash} FROM dewey_audit WHERE id = 2"
)


@pytest.mark.parametrize("previous", ["''", "previous", "hash"])
def test_inserted_row_is_reported(each_database: str, previous: str) -> None:
    add_rows(2)
    database.execute_sql("UPDATE dewey_audit_head SET last_id = 4")  # leaves a gap between 2 and the next one
    seal = hash_chain.head_mac(audit_log.audit_keys()[0], 4, AuditEntry.get_by_id(2).hash)
    AuditHead.update(seal=seal).execute()
    add_row()
    before = [finding for finding in list_findings() if finding[1] != "gap"]
    assert before == []
    tamper(INSERT.format(id=3, previous=previous, hash="hash"))
    assert (3, "inserted") in list_findings()


def test_appended_row_is_reported(each_database: str) -> None:
    add_rows()
    tamper(INSERT.format(id=7, previous="hash", hash="hash"))
    assert list_findings()[0] == (7, "inserted")


def test_forged_head_does_not_hide_a_truncation(each_database: str) -> None:
    add_rows()
    head = AuditEntry.get_by_id(4)
    tamper("DELETE FROM dewey_audit WHERE id > 4")
    AuditHead.update(last_id=4, hash=head.hash).execute()
    assert list_findings() == [(None, "head")]


@pytest.mark.parametrize("hide", ["UPDATE dewey_audit_head SET last_id = 4", "DELETE FROM dewey_audit_head", ""])
def test_truncation_is_reported_after_the_next_row_too(each_database: str, hide: str) -> None:
    add_rows()
    tamper("DELETE FROM dewey_audit WHERE id > 4")
    if hide:
        database.execute_sql(hide)
    add_row("the next one")
    assert [what for _, what in list_findings()] in (["gap"], ["removed", "gap"])
    assert AuditEntry.select().where(AuditEntry.action == audit_log.CHAIN_GAP).count() == 1
    add_row("and another")
    assert AuditEntry.select().where(AuditEntry.action == audit_log.CHAIN_GAP).count() == 1


def test_separately_kept_hash_must_be_in_the_chain(each_database: str) -> None:
    add_rows(3)
    kept = verify_chain().head
    add_rows(3)
    assert verify_chain(kept=kept).findings == []
    assert [finding.what for finding in verify_chain(kept="0" * 63 + "1").findings] == ["not found"]


def test_wrong_key_reports_every_row_and_since_limits_the_check(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(3)
    monkeypatch.setattr(audit_log, "audit_keys", lambda: (hash_chain.chain_key("another secret" * 4),))
    assert [what for _, what in list_findings()] == ["changed", "changed", "changed", "head"]
    add_row()
    assert [finding.what for finding in verify_chain(since=4).findings] == ["gap"]
    assert verify_chain(since=5).findings == []


# --- adopted rows, and the command ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_from_before_the_chain_are_sealed_by_the_migration(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/old.db" if kind == "sqlite" else request.getfixturevalue("fresh_postgresql")
    with bind_database(url):
        Runner(database.obj, str(ROOT / "migrations"), table_name="dewey_migrations").up("0012_errors")
        for number in (1, 2, 5):
            database.execute_sql(
                "INSERT INTO dewey_audit (id, at, actor_kind, actor, source, action, after) VALUES"
                f" ({number}, '2026-11-20 10:00:0{number}.25+00:00', 'cli', 'root', 'cli', 'x', '{{\"a\": [1, 2.5]}}')"
            )
        migrate()
        add_row()
        assert [entry.id for entry in AuditEntry.select().order_by(AuditEntry.id)] == [1, 2, 5, 6]
        assert verify_chain().findings == []
        tamper("UPDATE dewey_audit SET actor = 'x' WHERE id = 2")
        assert list_findings() == [(2, "changed")]


@pytest.fixture
def flask(each_database: str) -> Callable[..., Any]:
    app: Flask = create_app_with_people()
    return lambda *words: app.test_cli_runner().invoke(args=["audit", *words])


def test_verify_command_reports_the_changed_row(flask: Callable[..., Any]) -> None:
    add_rows()
    good = flask("verify")
    assert good.exit_code == 0 and "6 rows verified" in good.output
    head = json.loads(flask("verify", "--json").output)["head"]
    assert flask("verify", "--head", head).exit_code == 0
    tamper("UPDATE dewey_audit SET actor = 'x' WHERE id = 3")
    result = flask("verify")
    assert result.exit_code == 1 and "row 3 was changed" in result.output
    data = json.loads(flask("verify", "--json").output)
    assert [(finding["row"], finding["what"]) for finding in data["findings"]] == [(3, "changed")]


def test_list_command_shows_the_newest_first(flask: Callable[..., Any]) -> None:
    add_rows(3)
    add_row("operators.role", target="ann@example.org", before={"role": "viewer"}, after={"role": "admin"})
    rows = json.loads(flask("list", "--json").output)
    assert [row["action"] for row in rows] == ["operators.role", "tasks.2", "tasks.1", "tasks.0"]
    assert rows[0]["before"] == {"role": "viewer"}
    assert "ann@example.org" in flask("list", "--action", "operators.role").output
    assert json.loads(flask("list", "--actor", "unknown", "--json").output) == []
    assert len(json.loads(flask("list", "--limit", "2", "--json").output)) == 2
