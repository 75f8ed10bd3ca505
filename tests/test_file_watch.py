"""Waiting for a change of the SQLite broker's file, with the kernel's word for it and without."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.broker.inotify import FileWatch
from engine.broker.sqlite_results import SqliteValues

WRITE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("INSERT INTO kv VALUES ('', 'a', '1', 0)")
"""


@pytest.mark.parametrize("by_inotify", [True, False], ids=["by inotify", "by polling"])
def test_commit_of_another_process_ends_the_wait(tmp_path: Path, by_inotify: bool) -> None:
    storage = SqliteValues("q", tmp_path / "queue.db", 60)
    seen = storage.version()
    assert storage.watch()
    if not by_inotify:
        storage.local.watch = False
    with subprocess.Popen([sys.executable, "-c", WRITE, str(storage.path)]) as writer:
        assert storage.wait_for_change(seen, time.monotonic() + 30)
    assert writer.returncode == 0
    storage.close()


def test_wait_without_changes_times_out(tmp_path: Path) -> None:
    storage = SqliteValues("q", tmp_path / "queue.db", 60)
    assert not storage.wait_for_change(storage.version(), time.monotonic() + 0.2)
    storage.close()


def test_missing_file_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no watch"):
        FileWatch(tmp_path / "nothing")


def test_watch_reports_a_write_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    watch = FileWatch(file)
    assert not watch.wait(0)
    file.write_text("written")
    assert watch.wait(5)
    assert not watch.wait(0)
