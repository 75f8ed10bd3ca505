"""Closing abandoned sessions: selection, values, and database errors."""

import logging
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from databases import execute_autocommit

from engine.database import database, on_postgresql, release_connection
from models import Book, ReadingSession, User
from reading import sessions

NOON = datetime(2026, 11, 23, 12, 0, 0, 250000, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)

#: SQLite has one writer at a time, no trigger that skips a row silently, and no infinite timestamps.
on_postgresql_alone = pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)


def create_open_session(ago: timedelta = timedelta(hours=3), **facts: Any) -> ReadingSession:
    """Create an open session that began this long before noon."""
    reader, _ = User.get_or_create(email="reader@example.org")
    book, _ = Book.get_or_create(title="Middlemarch", author="George Eliot")
    return ReadingSession.create(**{"user": reader, "book": book, "started_at": NOON - ago, **facts})


def run_cleanup(batch_size: int = 100) -> dict[str, Any]:
    return sessions.close_abandoned(NOON, TWO_HOURS, batch_size)


def reload(session: ReadingSession) -> ReadingSession:
    return ReadingSession.get_by_id(session.id)


def test_only_sessions_older_than_the_limit_are_closed(each_database: str) -> None:
    older, just, younger = (create_open_session(TWO_HOURS + timedelta(microseconds=item)) for item in (1, 0, -1))
    assert run_cleanup()["closed_count"] == 1
    assert [reload(item).is_active for item in (older, just, younger)] == [False, True, True]


def test_closed_session_has_the_run_timestamp_and_whole_minutes(each_database: str) -> None:
    session = create_open_session(timedelta(minutes=125, seconds=59, microseconds=999999))
    result = run_cleanup()
    closed = reload(session)
    assert (closed.is_active, closed.ended_at, closed.duration_minutes) == (False, NOON, 125)
    assert result == {
        "closed_count": 1,
        "execution_time_ms": result["execution_time_ms"],
        "deadline": "2026-11-23T10:00:00.250000+00:00",
        "error": None,
    }
    assert result["execution_time_ms"] > 0


@pytest.mark.parametrize("microseconds", [0, 1, 249999, 250000, 250001, 999600, 999999])
def test_duration_counts_minutes_whole_to_the_microsecond(each_database: str, microseconds: int) -> None:
    session = create_open_session(timedelta(minutes=180, microseconds=-microseconds))
    run_cleanup()
    assert reload(session).duration_minutes == (179 if microseconds else 180)


def test_end_position_without_progress_is_the_start_position(each_database: str) -> None:
    none, some, back = (
        create_open_session(start_position=start, end_position=end) for start, end in ((40, 0), (40, 55), (40, 12))
    )
    run_cleanup()
    assert [reload(session).end_position for session in (none, some, back)] == [40, 55, 12]


def test_every_batch_is_closed_and_counted_once(each_database: str) -> None:
    for minute in range(23):
        create_open_session(timedelta(hours=3, minutes=minute % 5))  # several begin at the same time
    assert run_cleanup(batch_size=5)["closed_count"] == 23
    assert run_cleanup(batch_size=5)["closed_count"] == 0
    assert sessions.count_closed_at(NOON) == 23


def test_full_last_batch_loses_nothing(each_database: str) -> None:
    for _ in range(6):
        create_open_session()
    assert run_cleanup(batch_size=3)["closed_count"] == 6


def test_session_from_the_future_stays_open(each_database: str) -> None:
    future = create_open_session(timedelta(hours=-5))
    assert run_cleanup()["closed_count"] == 0
    assert reload(future).is_active


def test_ended_session_marked_active_is_left_unchanged(each_database: str) -> None:
    odd = create_open_session(ended_at=NOON - timedelta(hours=1))
    assert run_cleanup()["closed_count"] == 0
    assert (reload(odd).is_active, reload(odd).ended_at) == (True, NOON - timedelta(hours=1))


def test_session_without_reader_and_book_is_closed(each_database: str) -> None:
    if on_postgresql():
        database.execute_sql("ALTER TABLE reading_sessions DROP CONSTRAINT reading_sessions_user_id_fkey")
        database.execute_sql("ALTER TABLE reading_sessions DROP CONSTRAINT reading_sessions_book_id_fkey")
    else:
        database.execute_sql("PRAGMA foreign_keys = 0")
    orphan = create_open_session(user=uuid4(), book=uuid4())
    assert run_cleanup()["closed_count"] == 1
    assert not reload(orphan).is_active


def test_row_refused_by_a_constraint_stays_open_and_is_logged(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reading")
    add_check("duration_minutes <= 200")
    good = [create_open_session(timedelta(hours=3, seconds=item)) for item in range(9)]
    refused = [create_open_session(timedelta(hours=item)) for item in (4, 5)]
    result = run_cleanup(batch_size=4)
    assert (result["closed_count"], result["error"]) == (9, None)
    assert [reload(item).is_active for item in (*good, *refused)] == [False] * 9 + [True] * 2
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(line.partition(": ")[0] for line in warned) == sorted(
        f"Failed to close session {item.id}" for item in refused
    )
    assert "Successfully closed 9/11 sessions" in caplog.text


def add_check(condition: str) -> None:
    if on_postgresql():
        database.execute_sql(f"ALTER TABLE reading_sessions ADD CHECK ({condition})")
        return
    # SQLite accepts a constraint only when it creates the table.
    (sql,) = database.execute_sql("SELECT sql FROM sqlite_master WHERE name = 'reading_sessions'").fetchone()
    database.execute_sql("DROP TABLE reading_sessions")
    database.execute_sql(sql.rstrip().removesuffix(")") + f", CHECK ({condition}))")


def refuse_by_trigger(condition: str) -> None:
    if on_postgresql():
        database.execute_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF {condition} THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$"
        )
        database.execute_sql(
            "CREATE TRIGGER refuse BEFORE UPDATE ON reading_sessions FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    else:
        database.execute_sql(
            f"CREATE TRIGGER refuse BEFORE UPDATE ON reading_sessions WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )


def test_row_refused_by_a_trigger_stays_open_and_the_rest_is_closed(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_by_trigger("NEW.start_position = 13")
    refused, good = (
        create_open_session(start_position=13),
        [create_open_session(start_position=item) for item in range(7)],
    )
    assert run_cleanup()["closed_count"] == 7
    assert reload(refused).is_active
    assert not any(reload(item).is_active for item in good)
    assert f"Failed to close session {refused.id}: not this one" in caplog.text


@on_postgresql_alone
def test_row_kept_open_silently_by_a_trigger_is_not_counted(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute_sql(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.start_position = 13 THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    database.execute_sql("CREATE TRIGGER keep BEFORE UPDATE ON reading_sessions FOR EACH ROW EXECUTE FUNCTION keep()")
    kept, _ = create_open_session(start_position=13), create_open_session()
    assert run_cleanup()["closed_count"] == 1
    assert f"Failed to close session {kept.id}: a trigger kept it open" in caplog.text


@on_postgresql_alone
def test_row_locked_by_another_transaction_is_skipped_without_waiting(each_database: str) -> None:
    held, free = create_open_session(), create_open_session()
    with psycopg2.connect(each_database) as other:
        other.cursor().execute("SELECT 1 FROM reading_sessions WHERE id = %s FOR UPDATE", (str(held.id),))
        assert run_cleanup()["closed_count"] == 1
    other.close()
    assert (reload(held).is_active, reload(free).is_active) == (True, False)
    assert run_cleanup()["closed_count"] == 1


def test_concurrent_runs_close_each_session_once(each_database: str) -> None:
    for second in range(200):
        create_open_session(timedelta(hours=3, seconds=second % 20))
    counts: list[int] = []

    def run(number: int) -> None:
        instant = NOON + timedelta(microseconds=number)
        counts.append(sessions.close_abandoned(instant, TWO_HOURS, 7)["closed_count"])
        release_connection()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    assert sessions.count_abandoned(NOON, TWO_HOURS) == 0
    assert sum(sessions.count_closed_at(NOON + timedelta(microseconds=number)) for number in range(4)) == 200


def test_table_error_raises_and_keeps_committed_batches(each_database: str, caplog: pytest.LogCaptureFixture) -> None:
    for second in range(4):
        create_open_session(timedelta(hours=3, seconds=second))
    seen: list[int] = []

    def lose_the_table(done: int, total: int) -> None:
        seen.append(done)
        database.execute_sql("ALTER TABLE reading_sessions RENAME TO elsewhere")

    with pytest.raises(Exception, match="reading_sessions"):
        sessions.close_abandoned(NOON, TWO_HOURS, 2, on_progress=lose_the_table)
    database.execute_sql("ALTER TABLE elsewhere RENAME TO reading_sessions")
    assert (seen, sessions.count_closed_at(NOON)) == ([2], 2)
    [record] = [log_record for log_record in caplog.records if log_record.levelno == logging.ERROR]
    assert record.getMessage().startswith("Error closing abandoned sessions: ")
    assert record.exc_info


def test_cleanup_logs_the_documented_lines(each_database: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "reading")
    session = create_open_session(timedelta(minutes=125))
    elapsed = run_cleanup()["execution_time_ms"]
    assert [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "reading.sessions"
    ] == [
        ("INFO", "Starting close_abandoned_sessions task"),
        ("INFO", "Found 1 abandoned sessions"),
        ("DEBUG", f"Closed session {session.id} for user {session.user_id}, book {session.book_id}, duration 125min"),
        ("INFO", "Successfully closed 1/1 sessions"),
        ("INFO", f"Closed 1 abandoned sessions in {elapsed:.2f}ms"),
    ]
    caplog.clear()
    run_cleanup()
    assert "No abandoned sessions found" in caplog.text


def test_memory_use_does_not_grow_with_the_number_of_sessions(sqlite_database: None) -> None:
    def peak_of(count: int) -> int:
        with database.atomic():
            create_open_session()
            database.execute_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO reading_sessions (id, user_id, book_id, started_at) "
                "SELECT lower(hex(randomblob(16))), s.user_id, s.book_id, s.started_at FROM n, "
                "(SELECT * FROM reading_sessions WHERE is_active LIMIT 1) s",
                (count - 1,),
            )
        tracemalloc.start()
        assert run_cleanup(batch_size=500)["closed_count"] == count
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak_of(600)  # everything that is loaded once is now loaded
    assert peak_of(20_000) < 1.5 * peak_of(1_000)


@on_postgresql_alone
def test_timestamp_out_of_range_for_python_is_refused_alone(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    session, odd = create_open_session(), create_open_session()
    execute_autocommit(each_database, f"UPDATE reading_sessions SET started_at = '-infinity' WHERE id = '{odd.id}'")
    assert run_cleanup(batch_size=1)["closed_count"] == 1
    assert not reload(session).is_active
    assert f"Failed to close session {odd.id}" in caplog.text


def test_close_by_hand_closes_a_session_of_any_age_once(each_database: str) -> None:
    young, future = create_open_session(timedelta(minutes=5)), create_open_session(timedelta(hours=-1))
    assert sessions.close_one(young.id, NOON)
    assert not sessions.close_one(young.id, NOON + timedelta(hours=1))
    assert (reload(young).ended_at, reload(young).duration_minutes) == (NOON, 5)
    assert sessions.close_one(future.id, NOON)
    assert reload(future).duration_minutes == 0
    assert not sessions.close_one(uuid4(), NOON)
