"""Content-addressed files below a folder: `ab/abcdef…`, named by their SHA-256.

The keys suit a bucket too. A file appears complete or not at all: it is written beside its place, synced and renamed.
"""

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from engine.book_folder import book_folder, create_folder_id

#: Folder of files that are still being written.
INCOMING = "incoming"
CHUNK = 1 << 20


class IncomingFile:
    """A file that is being written. `keep` moves it to its place."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()

    def write(self, data: bytes) -> int:
        self.stream.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def copy(self, source: BinaryIO) -> None:
        while chunk := source.read(CHUNK):
            self.write(chunk)


class FileStore:
    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def receive(self) -> Iterator[IncomingFile]:
        """Yield a new file to write to. It is removed after the block unless it was kept."""
        folder = self.make_folder(INCOMING)
        path = folder / uuid4().hex
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                yield IncomingFile(path, stream)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, file: IncomingFile) -> Path:
        """Move a completed file to the place of its SHA-256 and return that place. A file already there is replaced."""
        file.stream.flush()
        os.fsync(file.stream.fileno())
        self.make_folder(file.sha256[:2])
        place = self.path(file.sha256)
        file.path.rename(place)
        sync_folder(place.parent)
        return place

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def delete(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def stored(self) -> Iterator[os.DirEntry[str]]:
        """Yield every file, the incoming ones included."""
        with suppress(FileNotFoundError):
            for folder in os.scandir(self.root):
                if folder.is_dir(follow_symlinks=False):
                    yield from os.scandir(folder)

    def delete_unreferenced(self, referenced: Collection[str], before: float) -> int:
        """Delete the files that are neither referenced nor changed since `before` (Unix seconds). Return their number.

        The age spares a file whose row is about to be committed.
        """
        orphans = [
            entry.path for entry in self.stored() if entry.name not in referenced and entry.stat().st_mtime < before
        ]
        for path in orphans:
            Path(path).unlink(missing_ok=True)
        return len(orphans)

    def make_folder(self, name: str) -> Path:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_folder_id(self.root)
        folder = self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


book_files = FileStore(book_folder)


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
