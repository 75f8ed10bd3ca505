"""The identity of the folder of books, so that a program on another host can show that it sees the same files.

The program that stores the first book creates the id. A program without the folder has none.
"""

from pathlib import Path
from uuid import uuid4

from config import settings
from engine.private_files import create_private

NAME = "folder_id"

book_folder = settings.data_dir / "books"


def create_folder_id(folder: Path) -> None:
    """Write a new id into the folder, unless it has one. The file appears with its content."""
    if not (folder / NAME).exists():
        create_private(folder / NAME, uuid4().hex.encode())


def read_folder_id(folder: Path = book_folder) -> str | None:
    try:
        return (folder / NAME).read_text() or None
    except OSError:
        return None
