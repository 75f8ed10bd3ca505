"""Books: added by upload, processed chapter by chapter, listed, processed again and deleted."""

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from browsers import Browser, RunFlask, bearer_headers, create_app_with_people
from factories import create_run, create_session
from werkzeug.test import TestResponse

import tasks
from admin.operations import books as operations
from config import settings
from engine.database import database
from engine.models import Run, now
from models import AuditEntry, Book, BookFile, Chapter, CreatedTable
from reading import processing
from reading.book_sources import BookDeleted
from reading.files import book_files

URL = "/api/v1/admin/books"
TEXT = "".join(f"Chapter {number}\n\n{'Some words of the story. ' * 20}\n\n" for number in range(1, 6)).encode()

AddBook = Callable[..., TestResponse]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(book_files, "root", tmp_path / "books")
    return tmp_path / "books"


@pytest.fixture
def client(each_database: str, folder: Path) -> Browser:
    """Return a client without a cookie, on both databases in turn."""
    return create_app_with_people().test_client()


@pytest.fixture
def headers(client: Browser) -> dict[str, str]:
    return bearer_headers("operator")


@pytest.fixture
def add(client: Browser, headers: dict[str, str]) -> AddBook:
    def send(data: bytes = TEXT, name: str = "story.txt", **changed: str) -> TestResponse:
        return client.post(URL, headers=headers | changed, data={"file": (io.BytesIO(data), name)})

    return send


def process(book_id: str, attempts: int = 1) -> None:
    """Execute the waiting run of the book."""
    for _ in range(attempts):
        task = tasks.heavy.dequeue()
        assert task is not None and task.args == () and task.kwargs == {"book_id": book_id}
        tasks.heavy.execute(task)


def stored_chapters(book_id: str) -> list[tuple[UUID, int, str]]:
    rows = Chapter.select().where(Chapter.book == UUID(book_id)).order_by(Chapter.number)
    return [(row.id, row.number, row.content) for row in rows]


def test_added_book_is_processed_into_its_chapters(add: AddBook, client: Browser, headers: dict[str, str]) -> None:
    answer = add()
    assert answer.status_code == 202, answer.text
    added = answer.json["book"]
    assert (added["state"], added["progress"], answer.json["duplicate"]) == ("queued", 0, False)
    process(added["id"])
    book = client.get(f"{URL}/{added['id']}", headers=headers).json
    assert (book["state"], book["progress"], book["chapters_done"], book["chapters_total"]) == ("completed", 100, 5, 5)
    assert (book["words"], book["error"], book["kept_share"]) == (510, None, 1.0)
    assert book["run_id"] == answer.json["run_id"]
    listed = client.get(f"{URL}/{added['id']}/chapters", headers=headers).json["chapters"]
    assert [chapter["number"] for chapter in listed] == [1, 2, 3, 4, 5]
    second = client.get(f"{URL}/{added['id']}/chapters/2", headers=headers).json
    assert second["content"].startswith("Chapter 2") and second["words"] == 102
    assert client.get(f"{URL}/{added['id']}/chapters/6", headers=headers).status_code == 404


def test_result_names_the_figures(add: AddBook) -> None:
    added = add().json
    process(added["book"]["id"])
    result = tasks.heavy.result(added["run_id"])
    assert result == {
        "book_id": added["book"]["id"],
        "status": "completed",
        "chapters": 5,
        "words": 510,
        "minutes": 5,
        "passages": 0,
        "warnings": [],
    }


def test_second_upload_of_a_file_is_a_duplicate(add: AddBook) -> None:
    first, second = add(), add(name="other.txt")
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json["duplicate"] and second.json["book"]["id"] == first.json["book"]["id"]
    assert (BookFile.select().count(), Book.select().count(), len(list(book_files.stored()))) == (1, 1, 1)
    assert [entry.action for entry in AuditEntry.select()] == ["books.add"]


def test_duplicate_restores_a_missing_file(add: AddBook) -> None:
    sha256 = add().json["book"]["sha256"]
    book_files.delete(sha256)
    add()
    assert book_files.path(sha256).read_bytes() == TEXT


def test_file_added_again_completes_a_book_that_lacked_it(add: AddBook) -> None:
    book_id = add().json["book"]["id"]
    book_files.delete(BookFile.get().sha256)
    process(book_id)
    assert BookFile.get().error_code == "missing_file"
    again = add().json
    assert (again["duplicate"], again["book"]["state"]) == (True, "queued")
    process(book_id)
    assert (BookFile.get().state, BookFile.get().run_id) == ("completed", again["run_id"])


def test_eight_clients_with_one_book_get_one_book(client: Browser, headers: dict[str, str]) -> None:
    def upload(number: int) -> TestResponse:
        browser = client.application.test_client()
        return browser.post(URL, headers=headers, data={"file": (io.BytesIO(TEXT), f"{number}.txt")})

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(upload, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json["book"]["id"] for answer in answers}) == 1
    assert (BookFile.select().count(), len(list(book_files.stored()))) == (1, 1)


def test_processing_again_keeps_every_id(add: AddBook, client: Browser, headers: dict[str, str]) -> None:
    book_id = add().json["book"]["id"]
    process(book_id)
    before = stored_chapters(book_id)
    written = [row.processed_at for row in Chapter.select()]
    assert client.post(f"{URL}/{book_id}/process", headers=headers).status_code == 200
    assert client.get(f"{URL}/{book_id}", headers=headers).json["state"] == "queued"
    process(book_id)
    assert stored_chapters(book_id) == before
    assert [row.processed_at for row in Chapter.select()] == written


def test_interrupted_processing_continues_after_the_last_chapter(add: AddBook) -> None:
    book_id = add().json["book"]["id"]
    task = tasks.heavy.dequeue()

    class Killed(BaseException):
        pass

    def die(done: float, total: float, title: str) -> None:
        if title == "Chapter 3":
            raise Killed

    with pytest.raises(Killed):
        processing.process_book(UUID(book_id), task.id, tasks.OPTIONS, die)
    half = BookFile.get()
    assert (half.state, half.chapters_done, half.progress) == ("processing", 3, 59)
    kept = [row.processed_at for row in Chapter.select().order_by(Chapter.number)]
    seen: list[int] = []
    processing.process_book(UUID(book_id), task.id, tasks.OPTIONS, lambda *_: seen.append(BookFile.get().progress))
    assert seen == sorted(seen) and seen[0] == 59
    assert [row.processed_at for row in Chapter.select().order_by(Chapter.number)][:3] == kept
    assert Chapter.select().count() == 5


def test_chapters_that_a_file_lacks_now_are_deleted(add: AddBook) -> None:
    book_id = add().json["book"]["id"]
    process(book_id)
    book_files.path(BookFile.get().sha256).write_bytes(b"Chapter 1\n\nShort.")
    tasks.process_book(book_id=book_id)
    process(book_id)
    assert [number for _, number, _ in stored_chapters(book_id)] == [1]
    assert BookFile.get().chapters_total == 1


def test_unreadable_book_fails_once_with_its_code(add: AddBook, client: Browser, headers: dict[str, str]) -> None:
    added = add(b"\x89PNG\r\n\x1a\n" + bytes(200), "picture.epub").json
    process(added["book"]["id"])
    book = client.get(f"{URL}/{added['book']['id']}", headers=headers).json
    assert (book["state"], book["error"]["code"]) == ("failed", "not_a_book")
    assert tasks.heavy.dequeue() is None, "a broken file is not tried again"
    assert tasks.heavy.scheduled_count() == 0


def test_missing_file_is_named(add: AddBook) -> None:
    book_id = add().json["book"]["id"]
    book_files.delete(BookFile.get().sha256)
    process(book_id)
    assert (BookFile.get().state, BookFile.get().error_code) == ("failed", "missing_file")


def test_database_error_is_tried_again(add: AddBook) -> None:
    book_id = add().json["book"]["id"]
    database.execute_sql("ALTER TABLE dewey_chapters RENAME TO away")
    process(book_id)
    database.execute_sql("ALTER TABLE away RENAME TO dewey_chapters")
    assert (BookFile.get().state, tasks.heavy.scheduled_count()) == ("processing", 1)


def test_deleted_book_leaves_neither_rows_nor_file(add: AddBook, client: Browser) -> None:
    book_id = add().json["book"]["id"]
    process(book_id)
    answer = client.post(f"{URL}/{book_id}/delete", headers=bearer_headers("admin"))
    assert answer.status_code == 200, answer.text
    counts = [model.select().count() for model in (BookFile, Chapter, Book)]
    assert (counts, list(book_files.stored())) == ([0, 0, 0], [])


def test_book_without_a_file_is_processed_to_a_named_error(
    add: AddBook, client: Browser, headers: dict[str, str]
) -> None:
    book_id = str(Book.create(title="A", author="B").id)
    assert client.post(f"{URL}/{book_id}/process", headers=headers).status_code == 200
    process(book_id)
    assert client.get(f"{URL}/{book_id}", headers=headers).json["error"]["code"] == "missing_file"
    assert client.post(f"{URL}/{UUID(int=7)}/process", headers=headers).status_code == 404


def test_book_with_sessions_stays_in_the_app_when_it_is_deleted(add: AddBook, client: Browser) -> None:
    book_id = add().json["book"]["id"]
    create_session(book=Book.get_by_id(book_id))
    client.post(f"{URL}/{book_id}/delete", headers=bearer_headers("admin"))
    assert (BookFile.select().count(), Book.select().count()) == (0, 1)


def test_book_deleted_while_it_is_processed_is_not_stored_again(add: AddBook) -> None:
    book_id = UUID(add().json["book"]["id"])

    def delete(*_progress: object) -> None:
        BookFile.delete().where(BookFile.book_id == book_id).execute()

    with pytest.raises(BookDeleted):
        processing.process_book(book_id, "run", tasks.OPTIONS, delete)
    assert Chapter.select().count() == 0


PICTURE = (
    "The old house stood at the edge of a dark forest, its grey stone walls covered with thick green ivy. "
    "Tall black pines rose behind the red roof, and a narrow white road ran down to the still lake."
)


def test_passages_lie_in_their_chapter_and_keep_their_ids(
    add: AddBook, client: Browser, headers: dict[str, str]
) -> None:
    filler = "He went on and said nothing of it to them that day, and they did not ask. " * 60
    book_id = add(f"Chapter 1\n\n{filler}\n\n{PICTURE}\n\n{filler}".encode()).json["book"]["id"]
    process(book_id)
    passages = client.get(f"{URL}/{book_id}/passages", headers=headers).json["passages"]
    content = client.get(f"{URL}/{book_id}/chapters/1", headers=headers).json["content"]
    assert passages and all(content[row["start"] : row["end"]] == row["content"] for row in passages)
    assert any("old house" in passage["content"] for passage in passages)
    assert client.get(f"{URL}/{book_id}", headers=headers).json["passages"] == len(passages)
    Chapter.update(parser_version=0).execute()
    tasks.process_book(book_id=book_id)
    process(book_id)
    assert client.get(f"{URL}/{book_id}/passages", headers=headers).json["passages"] == passages
    assert client.get(f"{URL}/{book_id}/passages?type=character", headers=headers).json["passages"] == []
    assert client.get(f"{URL}/{book_id}/passages?min_priority=101", headers=headers).status_code == 422


# --- what is refused -----------------------------------------------------------------------------------------


class UnreadBody(io.BytesIO):
    """A body that fails the test when it is read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("the body was read")

    readline = readlines = read  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("role", "length", "status"), [(None, 100, 401), ("viewer", 100, 403), ("operator", 10**9, 413)]
)
def test_refused_upload_is_not_read(app: Any, folder: Path, role: str | None, length: int, status: int) -> None:
    answer = app.test_client().post(
        URL,
        headers=bearer_headers(role) if role else {},
        environ_overrides={"CONTENT_LENGTH": str(length)},
        input_stream=UnreadBody(),
        content_type="multipart/form-data; boundary=x",
    )
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 415, "multipart/form-data"),
        ({"other": (io.BytesIO(b"x"), "x.txt")}, 422, "file"),
        ({"file": (io.BytesIO(b""), "x.txt")}, 422, "empty"),
        ({"file": "no file but a field"}, 422, "file"),
    ],
    ids=["no form", "another field", "an empty file", "a text field"],
)
def test_upload_without_a_file_is_named(app: Any, folder: Path, form: dict[str, Any], status: int, words: str) -> None:
    content_type = {"content_type": "multipart/form-data"} if form else {}
    answer = app.test_client().post(URL, headers=bearer_headers("operator"), data=form, **content_type)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert list(book_files.stored()) == []


def test_cut_off_upload_is_refused(app: Any, folder: Path) -> None:
    answer = app.test_client().post(
        URL,
        headers=bearer_headers("operator"),
        data=b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf',
        content_type="multipart/form-data; boundary=x",
    )
    assert (answer.status_code, list(book_files.stored()), BookFile.select().count()) == (422, [], 0)


def test_browser_needs_its_token_in_a_header(operator: Browser, folder: Path) -> None:
    def upload(**headers: str) -> TestResponse:
        return operator.post(URL, headers=headers, data={"file": (io.BytesIO(TEXT), "story.txt")})

    assert upload().status_code == 400
    assert upload(**{"X-CSRFToken": operator.form_token}).status_code == 202


def test_books_are_not_added_to_the_tables_of_a_live_app(add: AddBook) -> None:
    CreatedTable.delete().execute()
    assert add().status_code == 409
    assert (BookFile.select().count(), list(book_files.stored())) == (0, [])


# --- stuck books ---------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(add: AddBook) -> Iterator[BookFile]:
    """Return a book that was being processed when the broker lost everything."""
    add()
    tasks.heavy.flush()
    BookFile.update(added_at=now() - timedelta(hours=1), state="processing").execute()
    Run.update(state="failed", error="lost: the broker no longer has it").execute()
    return BookFile.get()


def sweep() -> int:
    return int(tasks.requeue_stuck_books.call_local(tasks.requeue_stuck_books.s())["requeued"])


def test_stuck_book_is_processed_again_at_most_three_times(stuck: BookFile) -> None:
    for _ in range(3):
        assert (sweep(), sweep()) == (1, 0), "its new run waits"
        tasks.heavy.flush()
        Run.update(state="failed", error="lost").execute()
    assert sweep() == 0
    assert (BookFile.get().state, BookFile.get().error_code) == ("failed", "worker_lost")


def test_stuck_book_is_completed_after_the_sweep(stuck: BookFile) -> None:
    sweep()
    task = tasks.heavy.dequeue()
    tasks.heavy.execute(task)
    assert BookFile.get().state == "completed"
    assert sweep() == 0


def test_book_of_a_cancelled_run_is_not_processed_again(stuck: BookFile) -> None:
    Run.update(state="cancelled", error="cancelled by an operator").execute()
    assert sweep() == 0
    assert (BookFile.get().state, BookFile.get().error_code) == ("failed", "cancelled")


@pytest.mark.parametrize("state", ["waiting", "running", "retrying", "scheduled"])
def test_book_with_a_live_run_is_left_alone(stuck: BookFile, state: str) -> None:
    Run.update(state=state).execute()
    assert sweep() == 0


def test_young_book_is_left_alone(stuck: BookFile) -> None:
    BookFile.update(added_at=now(), run_id=None).execute()
    assert sweep() == 0


# --- files without a book ------------------------------------------------------------------------------------


def test_nightly_cleanup_deletes_old_files_of_no_book(add: AddBook) -> None:
    kept = book_files.path(add().json["book"]["sha256"])
    with book_files.receive() as incoming:
        incoming.write(b"of no book")
        orphan = book_files.keep(incoming)
    for path in (kept, orphan):
        os.utime(path, (0, 0))
    tasks.cleanup_old_task_results.call_local()
    assert (kept.exists(), orphan.exists()) == (True, False)


# --- terminal ------------------------------------------------------------------------------------------------


def test_books_are_added_and_listed_in_the_terminal(flask: RunFlask, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(TEXT)
    assert "story" in flask("books", "add", str(path))
    assert "yes" in flask("books", "add", str(path)).splitlines()[-1]
    assert "queued" in flask("books", "list")


def test_file_over_the_limit_is_refused_in_the_terminal_too(
    flask: RunFlask, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(bytes(2 << 20))
    monkeypatch.setattr(operations, "settings", replace(settings, books_max_mb=1))
    assert "at most 1 MiB" in flask("books", "add", str(path), code=1)
    assert (BookFile.select().count(), list(book_files.stored())) == (0, [])


def test_changed_reading_speed_is_stored(add: AddBook) -> None:
    book_id = UUID(add().json["book"]["id"])
    processing.process_book(book_id, "run", tasks.OPTIONS, lambda *_: None)
    slow = tasks.OPTIONS._replace(words_per_minute={"ru": 10, "en": 10})
    assert processing.process_book(book_id, "run", slow, lambda *_: None)["minutes"] == 5 * 10


def test_run_of_another_task_does_not_matter(stuck: BookFile) -> None:
    create_run("close_abandoned_sessions", "running")
    assert sweep() == 1
