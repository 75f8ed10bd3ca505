"""Closing abandoned sessions: which, how, and what happens when the database objects."""

import logging
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from databases import execute_alone

from engine.database import database, on_postgresql, release
from models import Book, ReadingSession, User
from reading import sessions

NOON = datetime(2026, 11, 23, 12, 0, 0, 250000, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)

#: SQLite has one writer at a time, no trigger that keeps a row in silence, and no infinite instants.
on_postgresql_alone = pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)


def opened(ago: timedelta = timedelta(hours=3), **facts: Any) -> ReadingSession:
    """A session that was opened this long before noon."""
    reader, _ = User.get_or_create(email="reader@example.org")
    book, _ = Book.get_or_create(title="Middlemarch", author="George Eliot")
    return ReadingSession.create(**{"user": reader, "book": book, "started_at": NOON - ago, **facts})


def close(batch_size: int = 100) -> dict[str, Any]:
    return sessions.close_abandoned(NOON, TWO_HOURS, batch_size)


def again(session: ReadingSession) -> ReadingSession:
    return ReadingSession.get_by_id(session.id)


def test_only_sessions_strictly_older_than_the_limit_are_closed(each_database: str) -> None:
    older, just, younger = (opened(TWO_HOURS + timedelta(microseconds=one)) for one in (1, 0, -1))
    assert close()["closed_count"] == 1
    assert [again(one).is_active for one in (older, just, younger)] == [False, True, True]


def test_a_closed_session_bears_the_instant_of_its_run_and_whole_minutes(each_database: str) -> None:
    session = opened(timedelta(minutes=125, seconds=59, microseconds=999999))
    result = close()
    closed = again(session)
    assert (closed.is_active, closed.ended_at, closed.duration_minutes) == (False, NOON, 125)
    assert result == {
        "closed_count": 1,
        "execution_time_ms": result["execution_time_ms"],
        "deadline": "2026-11-23T10:00:00.250000+00:00",
        "error": None,
    }
    assert result["execution_time_ms"] > 0


@pytest.mark.parametrize("microseconds", [0, 1, 249999, 250000, 250001, 999600, 999999])
def test_a_minute_counts_when_it_is_whole_to_the_microsecond(each_database: str, microseconds: int) -> None:
    session = opened(timedelta(minutes=180, microseconds=-microseconds))
    close()
    assert again(session).duration_minutes == (179 if microseconds else 180)


def test_without_progress_the_end_is_the_start_and_progress_stays(each_database: str) -> None:
    none, some, back = (opened(start_position=start, end_position=end) for start, end in ((40, 0), (40, 55), (40, 12)))
    close()
    assert [again(one).end_position for one in (none, some, back)] == [40, 55, 12]


def test_every_batch_is_closed_and_counted_once(each_database: str) -> None:
    for minute in range(23):
        opened(timedelta(hours=3, minutes=minute % 5))  # several begin at the same instant
    assert close(batch_size=5)["closed_count"] == 23
    assert close(batch_size=5)["closed_count"] == 0
    assert sessions.count_closed_at(NOON) == 23


def test_a_batch_that_is_exactly_full_loses_nothing(each_database: str) -> None:
    for _ in range(6):
        opened()
    assert close(batch_size=3)["closed_count"] == 6


def test_a_session_from_the_future_stays_open(each_database: str) -> None:
    future = opened(timedelta(hours=-5))
    assert close()["closed_count"] == 0
    assert again(future).is_active


def test_a_session_that_has_ended_but_is_marked_active_is_left_as_it_is(each_database: str) -> None:
    odd = opened(ended_at=NOON - timedelta(hours=1))
    assert close()["closed_count"] == 0
    assert (again(odd).is_active, again(odd).ended_at) == (True, NOON - timedelta(hours=1))


def test_a_session_whose_reader_and_book_are_gone_is_closed(each_database: str) -> None:
    if on_postgresql():
        database.execute_sql("ALTER TABLE reading_sessions DROP CONSTRAINT reading_sessions_user_id_fkey")
        database.execute_sql("ALTER TABLE reading_sessions DROP CONSTRAINT reading_sessions_book_id_fkey")
    else:
        database.execute_sql("PRAGMA foreign_keys = 0")
    orphan = opened(user=uuid4(), book=uuid4())
    assert close()["closed_count"] == 1
    assert not again(orphan).is_active


def test_a_row_that_a_constraint_refuses_is_left_open_and_named(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reading")
    add_check("duration_minutes <= 200")
    good = [opened(timedelta(hours=3, seconds=one)) for one in range(9)]
    bad = [opened(timedelta(hours=one)) for one in (4, 5)]
    result = close(batch_size=4)
    assert (result["closed_count"], result["error"]) == (9, None)
    assert [again(one).is_active for one in (*good, *bad)] == [False] * 9 + [True] * 2
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(line.partition(": ")[0] for line in warned) == sorted(
        f"Failed to close session {one.id}" for one in bad
    )
    assert "Successfully closed 9/11 sessions" in caplog.text


def add_check(condition: str) -> None:
    if on_postgresql():
        database.execute_sql(f"ALTER TABLE reading_sessions ADD CHECK ({condition})")
        return
    # SQLite takes a constraint only with the table.
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


def test_a_row_for_which_a_trigger_raises_is_left_open_and_every_other_is_closed(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_by_trigger("NEW.start_position = 13")
    bad, good = opened(start_position=13), [opened(start_position=one) for one in range(7)]
    assert close()["closed_count"] == 7
    assert again(bad).is_active
    assert not any(again(one).is_active for one in good)
    assert f"Failed to close session {bad.id}: not this one" in caplog.text


@on_postgresql_alone
def test_a_row_that_a_trigger_silently_keeps_is_not_counted(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute_sql(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.start_position = 13 THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    database.execute_sql("CREATE TRIGGER keep BEFORE UPDATE ON reading_sessions FOR EACH ROW EXECUTE FUNCTION keep()")
    kept, _ = opened(start_position=13), opened()
    assert close()["closed_count"] == 1
    assert f"Failed to close session {kept.id}: a trigger kept it open" in caplog.text


@on_postgresql_alone
def test_a_row_that_another_transaction_holds_is_passed_over_without_waiting(each_database: str) -> None:
    held, free = opened(), opened()
    with psycopg2.connect(each_database) as other:
        other.cursor().execute("SELECT 1 FROM reading_sessions WHERE id = %s FOR UPDATE", (str(held.id),))
        assert close()["closed_count"] == 1
    other.close()
    assert (again(held).is_active, again(free).is_active) == (True, False)
    assert close()["closed_count"] == 1


def test_runs_side_by_side_close_each_session_once(each_database: str) -> None:
    for second in range(200):
        opened(timedelta(hours=3, seconds=second % 20))
    counts: list[int] = []

    def run(number: int) -> None:
        instant = NOON + timedelta(microseconds=number)
        counts.append(sessions.close_abandoned(instant, TWO_HOURS, 7)["closed_count"])
        release()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    assert sessions.count_abandoned(NOON, TWO_HOURS) == 0
    assert sum(sessions.count_closed_at(NOON + timedelta(microseconds=number)) for number in range(4)) == 200


def test_trouble_with_the_table_itself_raises_and_keeps_what_was_committed(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(4):
        opened(timedelta(hours=3, seconds=second))
    seen: list[int] = []

    def lose_the_table(done: int, found: int) -> None:
        seen.append(done)
        database.execute_sql("ALTER TABLE reading_sessions RENAME TO elsewhere")

    with pytest.raises(Exception, match="reading_sessions"):
        sessions.close_abandoned(NOON, TWO_HOURS, 2, on_progress=lose_the_table)
    database.execute_sql("ALTER TABLE elsewhere RENAME TO reading_sessions")
    assert (seen, sessions.count_closed_at(NOON)) == ([2], 2)
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.getMessage().startswith("Error closing abandoned sessions: ")
    assert record.exc_info


def test_the_lines_that_operators_know_are_logged(each_database: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "reading")
    session = opened(timedelta(minutes=125))
    elapsed = close()["execution_time_ms"]
    assert [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "reading.sessions"] == [
        ("INFO", "Starting close_abandoned_sessions task"),
        ("INFO", "Found 1 abandoned sessions"),
        ("DEBUG", f"Closed session {session.id} for user {session.user_id}, book {session.book_id}, duration 125min"),
        ("INFO", "Successfully closed 1/1 sessions"),
        ("INFO", f"Closed 1 abandoned sessions in {elapsed:.2f}ms"),
    ]
    caplog.clear()
    close()
    assert "No abandoned sessions found" in caplog.text


def test_memory_stays_flat_however_many_sessions_are_closed(library: None) -> None:
    def peak_of(count: int) -> int:
        with database.atomic():
            opened()
            database.execute_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO reading_sessions (id, user_id, book_id, started_at) "
                "SELECT lower(hex(randomblob(16))), s.user_id, s.book_id, s.started_at FROM n, "
                "(SELECT * FROM reading_sessions WHERE is_active LIMIT 1) s",
                (count - 1,),
            )
        tracemalloc.start()
        assert close(batch_size=500)["closed_count"] == count
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak_of(600)  # what is loaded once is loaded
    assert peak_of(20_000) < 1.5 * peak_of(1_000)


@on_postgresql_alone
def test_an_instant_that_python_does_not_know_is_refused_alone(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    session, odd = opened(), opened()
    execute_alone(each_database, f"UPDATE reading_sessions SET started_at = '-infinity' WHERE id = '{odd.id}'")
    assert close(batch_size=1)["closed_count"] == 1
    assert not again(session).is_active
    assert f"Failed to close session {odd.id}" in caplog.text


def test_closing_by_hand_closes_one_open_session_of_any_age_once(each_database: str) -> None:
    young, future = opened(timedelta(minutes=5)), opened(timedelta(hours=-1))
    assert sessions.close_one(young.id, NOON)
    assert not sessions.close_one(young.id, NOON + timedelta(hours=1))
    assert (again(young).ended_at, again(young).duration_minutes) == (NOON, 5)
    assert sessions.close_one(future.id, NOON)
    assert again(future).duration_minutes == 0
    assert not sessions.close_one(uuid4(), NOON)
