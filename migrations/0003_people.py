"""Operators, their browser sessions, API tokens, and the audit log."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_operators (
        id {numbered},
        email varchar(255) NOT NULL,
        password_hash text NOT NULL,
        role varchar(16) NOT NULL,
        created_at timestamptz NOT NULL,
        disabled_at timestamptz
    );
    CREATE UNIQUE INDEX dewey_operators_email ON dewey_operators (email);

    CREATE TABLE dewey_sign_ins (
        digest varchar(64) NOT NULL PRIMARY KEY,
        operator_id integer NOT NULL REFERENCES dewey_operators (id) ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        seen_at timestamptz NOT NULL,
        ended_at timestamptz,
        address text,
        agent text
    );
    CREATE INDEX dewey_sign_ins_operator_id ON dewey_sign_ins (operator_id);

    CREATE TABLE dewey_tokens (
        id {numbered},
        name varchar(255) NOT NULL,
        digest varchar(64) NOT NULL,
        role varchar(16) NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        used_at timestamptz,
        revoked_at timestamptz
    );
    CREATE UNIQUE INDEX dewey_tokens_name ON dewey_tokens (name);
    CREATE UNIQUE INDEX dewey_tokens_digest ON dewey_tokens (digest);

    CREATE TABLE dewey_audit (
        id {numbered},
        at timestamptz NOT NULL,
        actor_kind varchar(16) NOT NULL,
        actor text NOT NULL,
        source varchar(8) NOT NULL,
        action text NOT NULL,
        target text,
        before text,
        after text,
        address text
    );
    CREATE INDEX dewey_audit_at ON dewey_audit (at);
    CREATE INDEX dewey_audit_target ON dewey_audit (target);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
