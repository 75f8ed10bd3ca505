"""Workers are killed at random while they process books: each chapter is stored once, and progress never falls."""

import random
import time
from pathlib import Path
from uuid import UUID

import pytest
from installation import in_process
from waiting import wait_until

from admin.auth.identity import Actor
from admin.operations.books import add_file
from models import BookFile, Chapter
from reading.chapters import chapter_id
from reading.files import book_files

BOOKS, CHAPTERS, KILLS = 5, 60, 30
ACTOR = Actor("cli", "test", "admin", "cli")


def story(number: int) -> bytes:
    chapters = (
        f"Chapter {chapter}\n\n" + f"Words of {number}, {chapter}. " * 500 for chapter in range(1, CHAPTERS + 1)
    )
    return "\n\n".join(chapters).encode()


def add(number: int) -> UUID:
    with book_files.receive() as incoming:
        incoming.write(story(number))
        return add_file(ACTOR, incoming, f"{number}.txt").book.id


def completed() -> int:
    return int(BookFile.select().where(BookFile.state == "completed").count())


@pytest.mark.parametrize("servers", [False, True], ids=["embedded", "servers"])
def test_killed_workers_leave_each_chapter_once(
    servers: bool, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [request.getfixturevalue(name) for name in ("redis_url", "fresh_postgresql")] if servers else []
    chance, progress = random.Random(17), dict[UUID, int]()
    with in_process(tmp_path, *urls) as installation:
        monkeypatch.setattr(book_files, "root", Path(installation.environment["DATA_DIR"]) / "books")
        installation.environment["MAX_DELIVERIES"] = "100"
        installation.flask("migrate")
        ids = [add(number) for number in range(BOOKS)]

        def done() -> int:
            """Return the number of stored chapters. Progress must not have fallen."""
            for book in BookFile.select():
                assert book.progress >= progress.get(book.book_id, 0)
                progress[book.book_id] = book.progress
            return int(Chapter.select().count())

        with installation.consumer("heavy") as consumer:
            for kill in range(KILLS):
                wait_until(lambda kill=kill: done() > kill * BOOKS * CHAPTERS // (KILLS + 2), within=60)  # type: ignore[misc]
                time.sleep(chance.random() / 50)
                chance.choice(wait_until(consumer.children)).kill()
            wait_until(lambda: done() == BOOKS * CHAPTERS and completed() == BOOKS, within=120)
            died = consumer.log.count("died")
        stored = [chapter.id for chapter in Chapter.select(Chapter.id)]
    assert died >= KILLS // 2, "too few kills hit a worker"
    expected = {chapter_id(book_id, number) for book_id in ids for number in range(1, CHAPTERS + 1)}
    assert (set(stored), len(stored)) == (expected, BOOKS * CHAPTERS)


def test_cancel_stops_a_book_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process(tmp_path) as installation:
        monkeypatch.setattr(book_files, "root", Path(installation.environment["DATA_DIR"]) / "books")
        installation.flask("migrate")
        with book_files.receive() as incoming:
            incoming.write(story(1) * 20)
            added = add_file(ACTOR, incoming, "long.txt")
        with installation.consumer("heavy"):
            wait_until(lambda: Chapter.select().count() > 3)
            assert installation.flask("cancel", str(added.run_id)).returncode == 0
            wait_until(lambda: BookFile.get().state == "failed", within=5)
        assert (BookFile.get().error_code, BookFile.get().progress < 100) == ("cancelled", True)
        assert Chapter.select().count() == BookFile.get().chapters_done
