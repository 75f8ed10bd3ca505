"""A sample library, so that the first page of a new installation is not empty.

It covers two weeks of a reading app whose cleanup ran every half hour until recently. Most sessions were ended by their
readers, abandoned ones by a cleanup. Those abandoned since then wait for the next one.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypedDict
from uuid import UUID

from peewee import chunked

from engine.database import database
from engine.models import BaseModel
from models import READING_APP_TABLES, Book, ReadingSession, User, owns_reading_tables
from reading.sample_books import CLASSICS

READERS = 300
STARTS = 4900
DAYS = 14
CLEANED_AFTER = timedelta(hours=2)
HALF_HOUR = timedelta(minutes=30)
MINUTE = timedelta(minutes=1)

#: Relative number of session starts by hour (UTC): evenings are busy, weekends begin late and stay level.
WEEKDAY = (4, 2, 1, 1, 1, 2, 5, 11, 14, 9, 7, 7, 11, 12, 8, 7, 9, 14, 20, 27, 31, 29, 20, 10)
WEEKEND = (7, 4, 2, 1, 1, 1, 2, 5, 9, 15, 19, 20, 19, 18, 18, 19, 19, 18, 20, 23, 25, 24, 18, 12)

FIRST_NAMES = """
    ada alice amir anna anton arjun astrid carlos chiara clara daniel dmitri elena elif emil emma felix fatima giulia
    hana henrik ines irina ivan jonas julia karim katya lara leo lena lucas maria marta mateo mei mikhail mina nadia
    nina noah olga omar oskar paula pedro priya rosa samira sergei sofia tariq theo tomas vera victor yara yusuf zoe
"""
LAST_NAMES = """
    abe almeida andersson bauer becker bianchi castro chen costa demir diaz dubois eriksen fischer fontaine garcia
    haddad hansen horvat ivanova jansen kaya keller khan kim kowalska laurent lebedev lindqvist lopez marino meyer
    moreau morozova nakamura nielsen novak okafor orlova park patel petrov pereira popov ricci rossi santos sato
    schmidt silva smirnova sokolov svoboda tanaka torres varga volkova weber wolf yilmaz
"""
DEVICES: dict[str | None, int] = {"phone": 46, "tablet": 18, "e-reader": 20, "desktop": 11, None: 5}


class ForeignTables(Exception):
    """The three tables belong to a reading app, so sample data cannot be loaded."""


class AlreadyLoaded(Exception):
    """There are readers, books or sessions already."""


class SessionRow(TypedDict):
    id: UUID
    user_id: UUID
    book_id: UUID
    started_at: datetime
    ended_at: datetime | None
    duration_minutes: int
    start_position: int
    end_position: int  # 0: no progress was reported
    pages_read: int
    device_type: str | None
    is_active: bool
    created_at: datetime


class PlannedSession(NamedTuple):
    at: datetime
    fate: str  # ended, forgotten (both closed by now), open


def load(as_of: datetime, seed: int = 1873) -> dict[str, int]:
    """Fill Dewey's own, empty library with data as of `as_of`, in one transaction. The same seed gives the same data.

    Returns the counts `readers, books, sessions, closed, active, abandoned` (abandoned ones are active too). Raises
    ForeignTables and AlreadyLoaded.
    """
    chance = random.Random(seed)
    as_of = as_of.astimezone(UTC)
    with database.atomic():
        check_empty()
        readers = {new_id(chance): email for email in reader_emails(chance)}
        books = {new_id(chance): classic for classic in CLASSICS}
        sessions = list(build_sessions(chance, as_of, list(readers), list(books)))
        insert(User, [{"id": id, "email": email} for id, email in readers.items()])
        insert(Book, [{"id": id, "title": title, "author": author} for id, (title, author) in books.items()])
        insert(ReadingSession, sessions)
    active = [row["started_at"] for row in sessions if row["is_active"]]
    return {
        "readers": len(readers),
        "books": len(books),
        "sessions": len(sessions),
        "closed": len(sessions) - len(active),
        "active": len(active),
        "abandoned": sum(started_at < as_of - CLEANED_AFTER for started_at in active),
    }


def check_empty() -> None:
    if not owns_reading_tables():
        raise ForeignTables(
            "users, books and reading_sessions existed before Dewey: sample data is not loaded into them"
        )
    if any(model.select().exists() for model in READING_APP_TABLES):
        raise AlreadyLoaded("there are readers, books or sessions already")


def insert(model: type[BaseModel], rows: Iterable[Mapping[str, object]]) -> None:
    for chunk in chunked(rows, 500):
        model.insert_many(chunk).execute()


def new_id(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)


def reader_emails(chance: random.Random) -> list[str]:
    names = [f"{first}.{last}" for first in FIRST_NAMES.split() for last in LAST_NAMES.split()]
    return [f"{name}@example.{chance.choice(['com', 'net', 'org'])}" for name in chance.sample(names, READERS)]


# --- starts of sessions --------------------------------------------------------------------------------------


def session_starts(chance: random.Random, as_of: datetime) -> list[PlannedSession]:
    last_cleanup = floor_half_hour(as_of - timedelta(minutes=chance.randint(60, 100)))
    last_cleaned = last_cleanup - CLEANED_AFTER
    busy = hourly_weight(as_of) / max(WEEKDAY)
    abandoned = [uniform(chance, last_cleaned, as_of - CLEANED_AFTER) for _ in range(chance.randint(16, 34))]
    active = [uniform(chance, as_of - CLEANED_AFTER, as_of) for _ in range(70 + int(90 * busy) + chance.randint(-9, 9))]
    closed = []
    hours = [as_of - timedelta(hours=back) for back in range(1, DAYS * 24 + 1)]
    for hour in chance.choices(hours, [hourly_weight(hour) for hour in hours], k=STARTS):
        at = uniform(chance, hour, hour + timedelta(hours=1))
        closed.append(PlannedSession(at, "forgotten" if at < last_cleaned and chance.random() < 0.22 else "ended"))
    return sorted([*closed, *(PlannedSession(at, "open") for at in abandoned + active)])


def hourly_weight(at: datetime) -> int:
    return (WEEKEND if at.weekday() >= 5 else WEEKDAY)[at.hour]


def uniform(chance: random.Random, earliest: datetime, latest: datetime) -> datetime:
    return earliest + (latest - earliest) * chance.uniform(0.001, 0.999)


def floor_half_hour(at: datetime) -> datetime:
    """Return the last :00 or :30 up to `at`."""
    return at.replace(minute=at.minute // 30 * 30, second=0, microsecond=0)


# --- reading progress ----------------------------------------------------------------------------------------


class Reader:
    """Reads a few books at a time, on one or two devices, and continues where they stopped."""

    def __init__(self, chance: random.Random, id: UUID, books: list[UUID]) -> None:
        self.id = id
        self.shelf = books
        self.free_at = datetime.min.replace(tzinfo=UTC)
        self.devices = chance.choices(list(DEVICES), list(DEVICES.values()), k=2)
        self.minutes = chance.uniform(14, 38)  # of a typical session
        self.places = {book: chance.choice([0, 0, chance.randint(3, 70)]) for book in chance.sample(books, 3)}

    def next_book(self, chance: random.Random) -> tuple[UUID, int]:
        """Return a book and the position in it, in percent. A finished book is replaced by another."""
        book = chance.choice(list(self.places)[:2])
        if self.places[book] < 100:
            return book, self.places[book]
        del self.places[book]
        book = chance.choice([unread for unread in self.shelf if unread not in self.places])
        self.places[book] = 0
        return book, 0


def build_sessions(
    chance: random.Random, as_of: datetime, reader_ids: list[UUID], books: list[UUID]
) -> Iterator[SessionRow]:
    """Yield the rows of reading_sessions. A reader has one session at a time."""
    readers = [Reader(chance, id, books) for id in reader_ids]
    eagerness = [chance.paretovariate(1.6) for _ in readers]
    pages = {book: chance.randint(90, 760) for book in books}
    for at, fate in session_starts(chance, as_of):
        reader = chance.choices(readers, eagerness)[0]
        while reader.free_at >= at:
            reader = chance.choice(readers)
        yield build_session(chance, as_of, reader, pages, at, fate)


def build_session(
    chance: random.Random, as_of: datetime, reader: Reader, pages: dict[UUID, int], at: datetime, fate: str
) -> SessionRow:
    """Return the row of one session. The reader is busy until its end, and the book is left at the new position."""
    book, start = reader.next_book(chance)
    read_for = timedelta(minutes=min(max(chance.lognormvariate(0, 0.7) * reader.minutes, 0.7), 175))
    ended_at: datetime | None = min(at + read_for, uniform(chance, at, as_of))
    if fate != "ended":
        ended_at = cleanup_after(at) if fate == "forgotten" else None
    reader.free_at = ended_at or as_of
    minutes = int(min(read_for, reader.free_at - at) / MINUTE)
    # A forgotten session often was a short look into the book. An open one may not have reported its position yet.
    reported = chance.random() < {"ended": 0.92, "forgotten": 0.45, "open": 0.4}[fate]
    read = min(round(minutes * chance.uniform(0.7, 1.4)), pages[book] * (100 - start) // 100) if reported else 0
    reached = reader.places[book] = min(start + round(100 * read / pages[book]), 100)
    return {
        "id": new_id(chance),
        "user_id": reader.id,
        "book_id": book,
        "started_at": at,
        "ended_at": ended_at,
        "duration_minutes": int((ended_at - at) / MINUTE) if ended_at else minutes * reported,
        "start_position": start,
        "end_position": reached if ended_at or reached > start else 0,
        "pages_read": read,
        "device_type": chance.choices(reader.devices, [3, 1])[0],
        "is_active": ended_at is None,
        "created_at": at,
    }


def cleanup_after(started_at: datetime) -> datetime:
    """Return the half hour at which a cleanup finds a session that started then."""
    return floor_half_hour(started_at + CLEANED_AFTER) + HALF_HOUR
