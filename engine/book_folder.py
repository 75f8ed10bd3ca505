"""The identity of the folder of books, so that a program on another host can show that it sees the same files.

The program that stores the first book creates the id. A program without the folder has none.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from config import settings

NAME = "folder_id"

book_folder = settings.data_dir / "books"


def create_folder_id(folder: Path) -> None:
    """Write a new id into the folder, unless it has one. The file appears with its content."""
    if (folder / NAME).exists():
        return
    number, draft = tempfile.mkstemp(dir=folder, prefix=f".{NAME}.")
    with open(number, "w") as file:
        file.write(uuid4().hex)
    with suppress(FileExistsError):
        os.link(draft, folder / NAME)
    os.unlink(draft)


def read_folder_id(folder: Path = book_folder) -> str | None:
    try:
        return (folder / NAME).read_text() or None
    except OSError:
        return None
