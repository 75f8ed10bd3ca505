"""Waiting for a change of the SQLite broker's file, with and without inotify."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.broker.inotify import InotifyWatch
from engine.broker.sqlite.storage import SqliteStorage

WRITE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("INSERT INTO kv VALUES ('', 'a', '1', 0)")
"""


@pytest.mark.parametrize("by_inotify", [True, False], ids=["by inotify", "by polling"])
def test_commit_of_another_process_ends_the_wait(tmp_path: Path, by_inotify: bool) -> None:
    storage = SqliteStorage("q", tmp_path / "queue.db", 60)
    seen = storage.database.version()
    assert storage.database.watch()
    if not by_inotify:
        storage.database.thread.watch, storage.database.thread.can_watch = None, False
    with subprocess.Popen([sys.executable, "-c", WRITE, str(storage.database.path)]) as writer:
        assert storage.database.wait_for_change(seen, time.monotonic() + 30)
    assert writer.returncode == 0
    storage.close()


def test_wait_without_changes_times_out(tmp_path: Path) -> None:
    storage = SqliteStorage("q", tmp_path / "queue.db", 60)
    assert not storage.database.wait_for_change(storage.database.version(), time.monotonic() + 0.2)
    storage.close()


def test_missing_file_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no watch"):
        InotifyWatch(tmp_path / "nothing")


def test_watch_reports_a_write_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    watch = InotifyWatch(file)
    assert not watch.wait(0)
    file.write_text("written")
    assert watch.wait(5)
    assert not watch.wait(0)
