"""Databases, keys and the data folder are open to their owner alone, in any folder."""

import logging
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IMODE

import pytest
from databases import bound_to_library

from config import ROOT, InvalidSetting, load
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import database
from engine.private_files import create_private, make_database_private, restrict_folders

KEY = secrets.token_urlsafe(48)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """New files are readable by everyone unless the program prevents it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder that is not the data folder and that others may open."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o755)
    return folder


def open_library(folder: Path) -> None:
    with bound_to_library(f"sqlite:///{folder}/own.db"):
        database.execute_sql("CREATE TABLE one (it)")
        assert_private(folder, "own.db", "own.db-wal", "own.db-shm")


def open_queue(folder: Path) -> None:
    storage = SqliteStorage("light", folder / "own.db", 60)
    storage.put_data("a", "1")
    assert_private(folder, "own.db", "own.db-wal", "own.db-shm")
    storage.close()


def assert_private(folder: Path, *names: str) -> None:
    assert {name: oct(mode_of(folder / name)) for name in names} == dict.fromkeys(names, "0o600")


def mode_of(path: Path) -> int:
    return S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("open_database", [open_library, open_queue])
def test_new_database_and_its_side_files_are_private(elsewhere: Path, open_database: Callable[[Path], None]) -> None:
    open_database(elsewhere)
    assert mode_of(elsewhere) == 0o755
    assert not [path for path in elsewhere.iterdir() if path.name.startswith(".own.db")]


@pytest.mark.parametrize("open_database", [open_library, open_queue])
def test_existing_database_in_use_becomes_private(elsewhere: Path, open_database: Callable[[Path], None]) -> None:
    user = sqlite3.connect(elsewhere / "own.db")
    user.execute("PRAGMA journal_mode = wal")
    user.execute("CREATE TABLE two (it)")
    assert mode_of(elsewhere / "own.db-wal") == 0o644
    open_database(elsewhere)
    user.close()


def test_locks_of_this_process_are_kept(elsewhere: Path) -> None:
    """To open and close the file would release them: POSIX locks belong to the process."""
    path = elsewhere / "own.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE one (it)")
    holder.execute("BEGIN EXCLUSIVE")
    create_private(path)
    make_database_private(path)
    write = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('INSERT INTO one VALUES (1)')"
    assert "database is locked" in subprocess.run([sys.executable, "-c", write], capture_output=True, text=True).stderr
    holder.close()


# --- folders -------------------------------------------------------------------------------------------------


def test_every_program_closes_the_data_folder_and_the_folders_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "books" / "0f").mkdir(parents=True)
    (data / "note").write_text("a file")
    (data / "link").symlink_to(tmp_path)
    environment = {**os.environ, "DATA_DIR": str(data)}
    programs = {
        "web": "from app import create_app; create_app()",
        "consumer": "import tasks; tasks.light.create_consumer(workers=1, worker_type='process')",
    }
    for code in programs.values():
        for folder in (tmp_path, data, data / "books", data / "books" / "0f"):
            folder.chmod(0o755)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
        assert [mode_of(path) for path in (data, data / "books", data / "books" / "0f")] == [0o700] * 3
        assert mode_of(tmp_path) == 0o755 and mode_of(data / "note") == 0o644


@pytest.mark.parametrize(
    ("folder", "reason"), [("/proc/self/task", "Operation not permitted"), ("shared", "a shared folder")]
)
def test_folder_that_must_stay_open_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str, reason: str
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    with caplog.at_level(logging.WARNING):
        restrict_folders(tmp_path / folder)
    assert f"{tmp_path / folder}, and its rights stay as they are: {reason}" in caplog.text
    assert mode_of(tmp_path / "shared") == 0o1777


def test_missing_data_folder_is_not_made(tmp_path: Path) -> None:
    restrict_folders(tmp_path / "data")
    assert not (tmp_path / "data").exists()


# --- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_key_in_the_data_folder_that_others_may_open_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret_key"
    path.write_text(KEY)
    path.chmod(mode)
    with pytest.raises(InvalidSetting) as refused:
        load({"DATA_DIR": str(tmp_path)})
    assert str(refused.value) == f"SECRET_KEY='********' must be readable by its owner alone. Run: chmod 600 {path}"
    path.chmod(0o600)
    assert load({"DATA_DIR": str(tmp_path)}).secret_key == KEY


def test_open_key_ends_the_program_with_code_2_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    path.write_text(KEY)
    environment = {**os.environ, "DATA_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", "import config"], cwd=ROOT, env=environment, capture_output=True)
    assert ended.returncode == 2
    assert ended.stderr.decode().splitlines() == [
        f"dewey: SECRET_KEY='********' must be readable by its owner alone. Run: chmod 600 {path}"
    ]


def test_file_named_by_a_variable_keeps_its_rights(tmp_path: Path) -> None:
    """Docker, systemd and Kubernetes mount secrets with their own rights."""
    path = tmp_path / "mounted"
    path.write_text(KEY)
    path.chmod(0o444)
    assert load({"DATA_DIR": str(tmp_path / "data"), "SECRET_KEY_FILE": str(path)}).secret_key == KEY
    assert mode_of(path) == 0o444
