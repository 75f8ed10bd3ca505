"""Rights of the program's own files: databases and folders that only their owner may open."""

import logging
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from stat import S_IMODE, S_ISVTX

logger = logging.getLogger(__name__)

#: The rights of everyone but the owner.
OTHERS = 0o077

#: Endings of an SQLite file and of those beside it. SQLite creates them with the mode of the first.
SQLITE_ENDINGS = ("", "-wal", "-shm", "-journal")


def make_database_private(path: Path) -> None:
    """Create the SQLite file with mode 0600, or take the rights of others away from it and the files beside it."""
    if not path.exists():
        with suppress(OSError):  # SQLite reports the reason when it opens the file
            create_private(path)
    for ending in SQLITE_ENDINGS:
        make_private(path.with_name(path.name + ending))


def create_private(path: Path, content: bytes = b"") -> None:
    """Create a file with mode 0600 and this content. An existing one stays as it is.

    The file itself is never opened: closing it would release the locks that SQLite holds on it in this process.
    """
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with open(number, "wb") as file:
        file.write(content)
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def restrict_folders(top: Path) -> None:
    """Take the rights of others away from this folder and all folders in it."""
    for folder, _folders, _files in os.walk(top):
        make_private(Path(folder))


def make_private(path: Path) -> None:
    """Take the rights of others away. Warn once if that is not possible. A missing file is ignored."""
    try:
        mode = path.stat().st_mode
        if mode & OTHERS and is_shared_folder(mode):
            warn(path, "a shared folder")
        elif mode & OTHERS:
            path.chmod(S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:
        return
    except OSError as error:
        warn(path, error.strerror)


def is_shared_folder(mode: int) -> bool:
    """True for a folder such as /tmp, in which every user has files."""
    return bool(mode & S_ISVTX)


@cache
def warn(path: Path, reason: str) -> None:
    logger.warning("Other users may open %s, and its rights stay as they are: %s", path, reason)
