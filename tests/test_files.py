"""Files by their SHA-256: complete or absent, private, and deleted when no book refers to them."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config import ROOT
from reading.files import FileStore

DIGEST = hashlib.sha256(b"a book").hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "books")


def keep(files: FileStore, *parts: bytes) -> Path:
    with files.receive() as incoming:
        for part in parts:
            incoming.write(part)
        return files.keep(incoming)


def test_file_is_stored_under_its_sha256_for_its_owner_alone(files: FileStore) -> None:
    place = keep(files, b"a ", b"book")
    assert place == files.root / DIGEST[:2] / DIGEST
    assert place.read_bytes() == b"a book"
    assert [path.stat().st_mode & 0o777 for path in (place, place.parent, files.root)] == [0o600, 0o700, 0o700]


def test_file_that_is_not_kept_leaves_nothing(files: FileStore) -> None:
    with pytest.raises(RuntimeError), files.receive() as incoming:
        incoming.write(b"half")
        raise RuntimeError
    assert list(files.stored()) == []


def test_same_content_is_stored_once(files: FileStore) -> None:
    assert keep(files, b"a book") == keep(files, b"a bo", b"ok")
    assert len(list(files.stored())) == 1


WRITE = """
import sys
from pathlib import Path
from reading.files import FileStore
with FileStore(Path(sys.argv[1])).receive() as incoming:
    incoming.write(b"half")
    incoming.stream.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_killed_writer_leaves_no_book_and_its_rest_is_deleted(files: FileStore) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(files.root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout and writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    (rest,) = files.stored()
    assert Path(rest.path).parent.name == "incoming"
    assert files.delete_unreferenced([], before=time.time() - 3600) == 0
    assert files.delete_unreferenced([], before=time.time() + 1) == 1
    assert list(files.stored()) == []


def test_referenced_and_young_files_are_not_deleted(files: FileStore) -> None:
    kept, orphan = keep(files, b"a book"), keep(files, b"an orphan")
    for path in (kept, orphan):
        os.utime(path, (0, 0))
    young = keep(files, b"young")
    assert files.delete_unreferenced([DIGEST], before=time.time() - 3600) == 1
    assert (kept.exists(), orphan.exists(), young.exists()) == (True, False, True)
