"""A zip file that is read within limits. Nothing is unpacked to disk."""

import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from reading.books.errors import BookError
from reading.books.limits import MAX_DIRECTORY, MAX_DOCUMENT, MAX_ENTRIES, MAX_RATIO, MAX_UNPACKED, MB

END_OF_DIRECTORY = b"PK\x05\x06"
END_OF_DIRECTORY_64 = b"PK\x06\x06"
#: The longest comment after the end of the directory, and the records before it.
TAIL = 66_000
READ = 1 << 18
ENCRYPTED_BIT = 1

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OSError, NotImplementedError, ValueError)


class Archive:
    """The entries of a zip file by name. Raises BookError for one that is too big, encrypted or damaged."""

    def __init__(self, path: Path) -> None:
        check_directory(path)
        try:
            self.zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise BookError("truncated", f"the end of the zip file is missing or damaged ({error}).") from None
        entries = self.zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise too_many(len(entries))
        if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            raise BookError("zip_bomb", f"the entries unpack to more than {MAX_UNPACKED // MB} MB.")
        self.entries = {entry.filename.replace("\\", "/"): entry for entry in entries if not entry.is_dir()}
        self.folded = {name.lower(): name for name in reversed(self.entries)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def find(self, folder: str, reference: str) -> str | None:
        """Return the entry that a reference in a document of `folder` names. None if it is missing or outside."""
        plain = f"{folder}/{reference}" if folder else reference
        if plain in self.entries and "/." not in plain:
            return plain
        path = reference.partition("#")[0].partition("?")[0].replace("\\", "/")
        for candidate in (unquote(path), path, unquote(unquote(path))):
            name = posixpath.normpath(posixpath.join(folder, candidate)).lstrip("/")
            found = name if name in self.entries else self.folded.get(name.lower())
            if found:
                return found
        return None

    def read(self, name: str, limit: int) -> bytes:
        return b"".join(self.chunks(name, limit))

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield the bytes of an entry. Raises BookError at the limit, whatever size its header states."""
        entry = self.entries[name]
        if entry.flag_bits & ENCRYPTED_BIT:
            raise BookError("encrypted", f"{name} is encrypted.")
        check_size(entry, limit)
        total = 0
        try:
            with self.zip.open(entry) as file:
                while data := file.read(READ):
                    total += len(data)
                    if total > limit:
                        raise BookError("too_large", f"{name} has more than {limit // MB} MB.")
                    yield data
        except DAMAGED as error:
            raise BookError("truncated", f"{name} is damaged ({error}).") from None
        except RuntimeError as error:  # zipfile's answer to an encryption it does not support
            raise BookError("encrypted", f"{name} is encrypted ({error}).") from None


def check_size(entry: zipfile.ZipInfo, limit: int) -> None:
    """Raise BookError by the header alone, before anything is unpacked."""
    size = f"{entry.filename} unpacks to {entry.file_size // MB} MB"
    if entry.file_size > max(MAX_DOCUMENT, MAX_RATIO * entry.compress_size):
        raise BookError("zip_bomb", f"{size}, more than {MAX_RATIO} times its packed size.")
    if entry.file_size > limit:
        raise BookError("too_large", f"{size}, more than {limit // MB} MB.")


def check_directory(path: Path) -> None:
    """Raise BookError if the directory is too big, before it becomes objects."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    at = tail.rfind(END_OF_DIRECTORY)
    if at < 0:
        raise BookError("truncated", "the end of the zip file is missing.")
    at_64 = tail.rfind(END_OF_DIRECTORY_64, 0, at)
    try:
        count, length = struct.unpack_from("<HI", tail, at + 10)
        if at_64 >= 0:
            count, length = struct.unpack_from("<QQ", tail, at_64 + 32)
    except struct.error:
        raise BookError("truncated", "the end of the zip file is cut off.") from None
    if count > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise too_many(count)


def too_many(count: int) -> BookError:
    return BookError("too_many_entries", f"the zip file lists {count} entries, more than {MAX_ENTRIES}.")
