"""A reading app's live PostgreSQL, created by hand: its schema, its rows, and a writer that keeps writing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2

SCHEMA = """
CREATE TYPE plan AS ENUM ('free', 'premium');
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(320) NOT NULL,
    password_hash text NOT NULL DEFAULT 'x',
    plan plan NOT NULL DEFAULT 'free',
    last_seen_at timestamptz
);
CREATE UNIQUE INDEX users_lower_email ON users (lower(email));
CREATE TABLE books (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    title varchar(500) NOT NULL,
    author varchar(500),
    owner_id uuid REFERENCES users ON DELETE CASCADE,
    metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE reading_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    book_id uuid NOT NULL REFERENCES books ON DELETE CASCADE,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    duration_minutes int NOT NULL DEFAULT 0,
    start_position int NOT NULL DEFAULT 0,
    end_position int NOT NULL DEFAULT 0,
    pages_read int NOT NULL DEFAULT 0,
    device_type varchar(50),
    is_active bool NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    mood text COLLATE "C",
    CONSTRAINT positions CHECK (start_position BETWEEN 0 AND 100 AND end_position BETWEEN 0 AND 100)
);
CREATE INDEX ix_sessions_reader ON reading_sessions (user_id, started_at DESC);
CREATE INDEX ix_sessions_mood ON reading_sessions USING hash (mood) WHERE mood IS NOT NULL;
CREATE TABLE bookmarks (
    id bigserial PRIMARY KEY,
    session_id uuid REFERENCES reading_sessions ON DELETE SET NULL,
    position int NOT NULL
);
CREATE TABLE session_log (session_id uuid, change text, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE VIEW readers_now AS SELECT DISTINCT user_id FROM reading_sessions WHERE is_active;
CREATE FUNCTION log_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO session_log (session_id, change) VALUES (NEW.id, TG_OP);
    RETURN NEW;
END $$;
CREATE TRIGGER log_session AFTER INSERT OR UPDATE ON reading_sessions FOR EACH ROW EXECUTE FUNCTION log_session();
CREATE FUNCTION keep_kiosks_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.device_type = 'kiosk' AND NOT NEW.is_active THEN RAISE EXCEPTION 'a kiosk never closes'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER kiosks BEFORE UPDATE ON reading_sessions FOR EACH ROW EXECUTE FUNCTION keep_kiosks_open();
"""

#: 20 readers, 20 books, 3,000 closed sessions, 40 abandoned ones of which 2 are kiosks, 10 young ones.
ROWS = """
INSERT INTO users (email) SELECT 'reader' || i || '@example.org' FROM generate_series(1, 20) AS i;
INSERT INTO books (title, author)
SELECT 'Book ' || i, NULLIF('Author ' || i, 'Author 7') FROM generate_series(1, 20) AS i;
INSERT INTO reading_sessions
    (user_id, book_id, started_at, ended_at, duration_minutes, end_position, is_active, device_type, mood)
SELECT u.id, b.id, now() - i * interval '10 minutes' - interval '3 hours',
    now() - i * interval '10 minutes' - interval '2 hours', 60, i % 101, false, 'phone', 'calm'
FROM generate_series(1, 3000) AS i
JOIN (SELECT id, row_number() OVER () AS n FROM users) AS u ON u.n = i % 20 + 1
JOIN (SELECT id, row_number() OVER () AS n FROM books) AS b ON b.n = i % 20 + 1;
INSERT INTO reading_sessions (user_id, book_id, started_at, start_position, device_type)
SELECT (SELECT id FROM users LIMIT 1), (SELECT id FROM books LIMIT 1),
    now() - CASE WHEN i <= 40 THEN interval '5 hours' ELSE interval '5 minutes' END, 30,
    CASE WHEN i <= 2 THEN 'kiosk' ELSE 'tablet' END
FROM generate_series(1, 50) AS i;
INSERT INTO bookmarks (session_id, position) SELECT id, 5 FROM reading_sessions LIMIT 100;
"""

CLEANUP_INDEX = """
CREATE INDEX idx_reading_sessions_cleanup ON reading_sessions (is_active, started_at)
WHERE is_active = true AND ended_at IS NULL
"""

#: All catalog entries of the app's objects: one row each, with the name in the first column.
CATALOGS = (
    """SELECT c.relname, c.oid, c.relkind, c.relfilenode, c.relowner, c.relacl::text, c.reloptions, c.relpersistence,
        c.relnatts, c.relchecks, c.relhastriggers, c.relreplident, c.relrowsecurity, pg_get_indexdef(c.oid),
        (SELECT row(i.indisvalid, i.indisready, i.indislive)::text FROM pg_index AS i WHERE i.indexrelid = c.oid),
        CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END
       FROM pg_class AS c WHERE c.relnamespace = ANY({spaces})""",
    """SELECT c.relname, a.* FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
       WHERE c.relnamespace = ANY({spaces})""",
    """SELECT c.relname, d.adnum, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
       JOIN pg_class AS c ON c.oid = d.adrelid WHERE c.relnamespace = ANY({spaces})""",
    """SELECT c.relname, k.conname, k.oid, pg_get_constraintdef(k.oid), k.convalidated FROM pg_constraint AS k
       JOIN pg_class AS c ON c.oid = k.conrelid WHERE c.relnamespace = ANY({spaces})""",
    """SELECT c.relname, t.oid, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid) FROM pg_trigger AS t
       JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = ANY({spaces})""",
    "SELECT p.proname, p.oid, pg_get_functiondef(p.oid) FROM pg_proc AS p WHERE p.pronamespace = ANY({spaces})",
    "SELECT t.typname, t.oid, t.typtype, t.typowner FROM pg_type AS t WHERE t.typnamespace = ANY({spaces})",
    "SELECT n.nspname, n.oid, n.nspowner, n.nspacl::text FROM pg_namespace AS n WHERE n.oid = ANY({spaces})",
    "SELECT r.rolname, s.setconfig FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole",
)
SPACES = "ARRAY(SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$')"
TABLES = ("users", "books", "reading_sessions", "bookmarks", "session_log")


class ReadingApp:
    """A connection of the app. Each statement is a separate transaction unless `hold` is set."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def scalar(self, sql: str, *values: Any) -> Any:
        return self.run(sql, *values)[0][0]

    def objects(self) -> set[tuple[str, str]]:
        """Return the catalog entries as (name, all columns)."""
        rows = [row for query in CATALOGS for row in self.run(query.format(spaces=SPACES))]
        return {(str(row[0]), repr(row)) for row in rows}

    def rows(self) -> set[tuple[str, str]]:
        return {(table, row) for table in TABLES for (row,) in self.run(f"SELECT t::text FROM {table} AS t")}

    def is_build_waiting(self, index: str) -> bool:
        """Return true if a concurrent build of `index` waits for a transaction to end."""
        return bool(self.builder_pid(index, "AND wait_event_type = 'Lock'"))

    def builder_pid(self, index: str, condition: str = "") -> int | None:
        """Return the process id of the backend that builds `index` concurrently."""
        query = f"""SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
            AND query ~ '^\\s*CREATE INDEX CONCURRENTLY.*{index}' {condition}"""
        return next((row[0] for row in self.run(query)), None)

    def validity(self, index: str) -> bool | None:
        """Return true if the index is valid, None if it does not exist."""
        rows = self.run("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", index)
        return rows[0][0] if rows else None

    def close(self) -> None:
        self.connection.close()


@contextmanager
def open_app_transaction(url: str, sql: str) -> Iterator[Any]:
    """Run `sql` in a transaction that stays open until `.commit()` or the end of the block."""
    connection = psycopg2.connect(url)
    try:
        connection.cursor().execute(sql)
        yield connection
    finally:
        connection.close()


class Writer(threading.Thread):
    """A thread that starts, updates and ends sessions, updates readers and books, and times each write."""

    START = """INSERT INTO reading_sessions (user_id, book_id, device_type)
        VALUES ((SELECT id FROM users LIMIT 1), (SELECT id FROM books LIMIT 1), 'writer') RETURNING id"""
    STEPS = (
        "UPDATE reading_sessions SET end_position = 10, mood = 'calm' WHERE id = %s",
        "UPDATE reading_sessions SET is_active = false, ended_at = now(), duration_minutes = 1 WHERE id = %s",
        "UPDATE users SET last_seen_at = now() WHERE email = 'writer@example.org' AND %s IS NOT NULL",
        "UPDATE books SET metadata = '{\"read\": true}' WHERE title = 'Written' AND %s IS NOT NULL",
    )

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.app = ReadingApp(url)
        self.app.run("INSERT INTO users (email) VALUES ('writer@example.org')")
        self.app.run("INSERT INTO books (title) VALUES ('Written')")
        self.stopping = threading.Event()
        self.finished = 0
        self.longest_ms = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                session = self.timed(self.START)[0][0]
                for step in self.STEPS:
                    self.timed(step, session)
        except psycopg2.Error as error:
            self.error = error

    def timed(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        started = time.perf_counter()
        rows = self.app.run(sql, *values)
        self.longest_ms = max(self.longest_ms, (time.perf_counter() - started) * 1000)
        self.finished += 1
        return rows

    def __enter__(self) -> "Writer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.join(timeout=60)
        self.app.close()
