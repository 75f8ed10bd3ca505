"""The audit log as an append-only hash chain. Existing rows are linked."""

import json

from peewee import Database, PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

from config import settings
from engine import hash_chain
from engine.migrations import run_script

SCRIPT = """
    ALTER TABLE dewey_audit ADD COLUMN previous text NOT NULL DEFAULT '';
    ALTER TABLE dewey_audit ADD COLUMN hash text NOT NULL DEFAULT '';
    CREATE INDEX dewey_audit_actor ON dewey_audit (actor, at, id);
    CREATE INDEX dewey_audit_action ON dewey_audit (action, at, id);
    CREATE TABLE dewey_audit_head (
        id integer NOT NULL PRIMARY KEY,
        last_id integer NOT NULL,
        hash text NOT NULL,
        seal text NOT NULL
    );
"""

REFUSAL = "dewey_audit only grows"

#: These prevent accidental changes. An attacker could drop them, which is why rows are hashed.
TRIGGERS = {
    "postgresql": (
        f"""CREATE FUNCTION dewey_audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$""",
        """CREATE TRIGGER dewey_audit_no_change BEFORE UPDATE OR DELETE ON dewey_audit
            FOR EACH ROW EXECUTE FUNCTION dewey_audit_only_grows()""",
        """CREATE TRIGGER dewey_audit_no_truncate BEFORE TRUNCATE ON dewey_audit
            FOR EACH STATEMENT EXECUTE FUNCTION dewey_audit_only_grows()""",
    ),
    "sqlite": tuple(
        f"""CREATE TRIGGER dewey_audit_no_{verb.lower()} BEFORE {verb} ON dewey_audit
            BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"""
        for verb in ("UPDATE", "DELETE")
    ),
}


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
    link_what_is_there(db)
    for statement in TRIGGERS["postgresql" if isinstance(db, PostgresqlDatabase) else "sqlite"]:
        db.execute_sql(statement)


def link_what_is_there(db: Database) -> None:
    key, last_id, last_hash = hash_chain.chain_key(settings.secret_key), 0, hash_chain.START
    rows = db.execute_sql(f"SELECT {', '.join(hash_chain.COLUMNS)} FROM dewey_audit ORDER BY id").fetchall()
    for values in rows:
        row = dict(zip(hash_chain.COLUMNS, values, strict=True))
        row |= {name: row[name] and json.loads(row[name]) for name in ("before", "after")}
        previous, last_id = last_hash, row["id"]
        last_hash = hash_chain.row_hash(key, previous, row)
        db.execute_sql(
            f"UPDATE dewey_audit SET previous = {db.param}, hash = {db.param} WHERE id = {db.param}",
            [previous, last_hash, last_id],
        )
    head = [last_id, last_hash, hash_chain.head_mac(key, last_id, last_hash) if rows else ""]
    marks = ", ".join([db.param] * len(head))
    db.execute_sql(f"INSERT INTO dewey_audit_head (id, last_id, hash, seal) VALUES (1, {marks})", head)
