"""Stored chapters and their passages. Ids depend on book, number and text only, so a second run keeps them."""

import hashlib
from collections.abc import Iterable
from uuid import UUID, uuid5

from peewee import fn

from engine.models import now
from models import Chapter, Passage
from reading.books.book import PARSER_VERSION
from reading.books.book import Chapter as SourceChapter
from reading.passages import Passage as FoundPassage


def chapter_id(book_id: UUID, number: int) -> UUID:
    return uuid5(book_id, str(number))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_stored(book_id: UUID, chapter: SourceChapter) -> bool:
    """Return true if the same text, title and minutes are stored, read by the same version of the reader."""
    same = (
        (Chapter.id == chapter_id(book_id, chapter.number))
        & (Chapter.content_sha256 == digest(chapter.content))
        & (Chapter.title == chapter.title)
        & (Chapter.minutes == chapter.minutes)
        & (Chapter.parser_version == PARSER_VERSION)
    )
    return bool(Chapter.select().where(same).exists())


def write(book_id: UUID, chapter: SourceChapter, passages: Iterable[FoundPassage]) -> None:
    """Insert or replace a chapter with its passages."""
    own_id = chapter_id(book_id, chapter.number)
    rows = {row["id"]: row for row in (passage_row(own_id, passage) for passage in passages)}
    values = {
        "title": chapter.title,
        "level": chapter.level,
        "source_ref": chapter.source_ref,
        "content": chapter.content,
        "content_sha256": digest(chapter.content),
        "characters": chapter.characters,
        "words": chapter.words,
        "minutes": chapter.minutes,
        "is_service_page": chapter.is_service_page,
        "passages": len(rows),
        "parser_version": PARSER_VERSION,
        "processed_at": now(),
    }
    if Chapter.update(values).where(Chapter.id == own_id).execute():
        Passage.delete().where(Passage.chapter == own_id).execute()
    else:
        Chapter.insert(id=own_id, book=book_id, number=chapter.number, **values).execute()
    if rows:
        Passage.insert_many(list(rows.values())).execute()


def passage_row(chapter: UUID, passage: FoundPassage) -> dict[str, object]:
    return {
        "id": uuid5(chapter, digest(passage.content)),
        "chapter": chapter,
        "type": passage.type,
        "content": passage.content,
        "position_start": passage.start,
        "position_end": passage.end,
        "words": passage.words,
        "confidence": passage.confidence,
        "priority": passage.priority,
    }


def delete_after(book_id: UUID, number: int) -> None:
    """Delete the chapters that the file does not have."""
    Chapter.delete().where((Chapter.book == book_id) & (Chapter.number > number)).execute()


def sum_figures(book_id: UUID) -> tuple[int, int, int]:
    """Return the words, minutes and passages of the stored chapters."""
    columns = (fn.SUM(Chapter.words), fn.SUM(Chapter.minutes), fn.SUM(Chapter.passages))
    words, minutes, passages = Chapter.select(*columns).where(Chapter.book == book_id).scalar(as_tuple=True)
    return int(words or 0), int(minutes or 0), int(passages or 0)
