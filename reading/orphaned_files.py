"""Deletion of book files that no book refers to, such as those of a killed upload."""

from datetime import datetime, timedelta

from models import BookFile
from reading.files import FileStore

#: A younger file may belong to an upload that is about to be stored.
MINIMUM_AGE = timedelta(hours=24)


def delete_orphaned(files: FileStore, as_of: datetime) -> None:
    referenced = {book.sha256 or "" for book in BookFile.select(BookFile.sha256)}
    files.delete_unreferenced(referenced, (as_of - MINIMUM_AGE).timestamp())
