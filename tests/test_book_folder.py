"""A consumer that does not see the web server's folder of books makes the service unready."""

from pathlib import Path

import pytest
from consumers import consumer, share_with_consumers
from factories import create_consumer
from waiting import wait_until

import tasks
from engine.book_folder import book_folder, create_folder_id, read_folder_id
from engine.history.writer import flush_events, sync_consumers
from engine.models import Consumer
from engine.monitor import status


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    monkeypatch.setattr(status, "read_folder_id", lambda: read_folder_id(folder))
    return folder


def blind() -> list[str]:
    return [reason for reason in status.check_readiness(tasks.queues) if "does not see the books" in reason]


def test_id_of_a_folder_is_created_once(tmp_path: Path) -> None:
    create_folder_id(tmp_path)
    first = read_folder_id(tmp_path)
    create_folder_id(tmp_path)
    assert first and read_folder_id(tmp_path) == first
    assert read_folder_id(tmp_path / "elsewhere") is None


@pytest.mark.usefixtures("app")
def test_consumer_with_another_folder_is_named(own_folder: Path) -> None:
    name = create_consumer("heavy", book_folder="another").id
    create_consumer("light")
    assert blind() == [], "this server has no books"
    create_folder_id(own_folder)
    assert blind() == [f"consumer {name} of heavy does not see the books of this server: share DATA_DIR"]
    Consumer.update(book_folder=read_folder_id(own_folder)).execute()
    assert blind() == []


@pytest.mark.usefixtures("sqlite_database")
def test_heartbeat_names_the_folder_of_the_consumer(tmp_path: Path) -> None:
    with share_with_consumers(tasks.heavy, tmp_path) as environment:
        folder = Path(environment["DATA_DIR"]) / book_folder.name
        folder.mkdir(parents=True)
        create_folder_id(folder)
        with consumer("tasks.heavy", environment=environment, log=tmp_path / "log"):
            flush_events(tasks.heavy)
            wait_until(lambda: sync_consumers(tasks.heavy) and Consumer.get_or_none(Consumer.queue == "heavy"))
            assert Consumer.get().book_folder == read_folder_id(folder)
