"""The audit log under several keys: it stays valid, and a former key proves nothing about later entries."""

from browsers import UseKeys
from test_keys import FIRST, SECOND, THIRD

from admin import audit_log
from admin.audit_log import append_entries, verify_chain
from engine import hash_chain
from engine.database import database, on_postgresql
from models import AuditEntry, AuditHead


def add_rows(count: int = 3) -> None:
    for number in range(count):
        append_entries(actor_kind="operator", actor="vera", source="web", action=f"tasks.{number}")


def drop_triggers() -> None:
    if on_postgresql():
        database.execute_sql("ALTER TABLE dewey_audit DISABLE TRIGGER USER")
    else:
        for verb in ("update", "delete"):
            database.execute_sql(f"DROP TRIGGER dewey_audit_no_{verb}")


def find_faults() -> list[tuple[int | None, str]]:
    return [(finding.row, finding.what) for finding in verify_chain().findings]


def test_audit_of_three_keys_is_valid_without_since(each_database: str, use_keys: UseKeys) -> None:
    for former in ((), (FIRST,), (SECOND, FIRST)):
        use_keys((FIRST, SECOND, THIRD)[len(former)], *former)
        assert find_faults() == []  # before the first row of the new key too
        add_rows()
    use_keys(THIRD, FIRST, SECOND)
    report = verify_chain()
    assert (report.rows, report.former_key_rows, report.findings) == (9, 6, [])
    assert AuditEntry.select().where(AuditEntry.action == audit_log.CHAIN_GAP).count() == 0
    use_keys(THIRD, SECOND)
    assert find_faults() == [(1, "changed"), (2, "changed"), (3, "changed")]


def test_change_of_a_row_under_a_former_key_is_reported(each_database: str, use_keys: UseKeys) -> None:
    use_keys(FIRST)
    add_rows()
    use_keys(SECOND, FIRST)
    add_rows()
    drop_triggers()
    database.execute_sql("UPDATE dewey_audit SET actor = 'x' WHERE id = 2")
    assert find_faults() == [(2, "changed")]


def test_holder_of_a_former_key_cannot_add_rows(each_database: str, use_keys: UseKeys) -> None:
    for former in ((), (FIRST,), (SECOND, FIRST)):
        use_keys((FIRST, SECOND, THIRD)[len(former)], *former)
        add_rows(2)
    for key in (FIRST, SECOND):
        use_keys(key, *({FIRST, SECOND, THIRD} - {key}))
        add_rows(1)
        use_keys(THIRD, SECOND, FIRST)
        assert (7, "changed") in find_faults()


def test_holder_of_a_former_key_cannot_hide_a_truncation(each_database: str, use_keys: UseKeys) -> None:
    use_keys(FIRST)
    add_rows()
    use_keys(SECOND, FIRST)
    add_rows()
    drop_triggers()
    database.execute_sql("DELETE FROM dewey_audit WHERE id > 5")
    last = AuditEntry.get_by_id(5).hash
    seal = hash_chain.head_mac(hash_chain.chain_key(FIRST), 5, last)
    AuditHead.update(last_id=5, hash=last, seal=seal).execute()
    assert find_faults() == [(None, "head")]
    add_rows(1)
    assert find_faults() == [(6, "gap")]
