"""Tables of the reading app and of the console's users, with their queries."""

from datetime import datetime, timedelta
from uuid import uuid4

from peewee import (
    JOIN,
    SQL,
    AutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    DoubleField,
    Expression,
    ForeignKeyField,
    IntegerField,
    ModelSelect,
    TextField,
    UUIDField,
    fn,
)

from engine.database import JSONTextField, UTCDateTimeField
from engine.models import BaseModel, now

#: Up to this number, matching readers or books are listed by id in the query for sessions.
MAX_IDS = 1000


class User(BaseModel):
    """A reader. In the reading app's table Dewey relies on these two columns only."""

    id = UUIDField(primary_key=True, default=uuid4)
    email = CharField(unique=True)

    class Meta:
        table_name = "users"


class Book(BaseModel):
    """A book. In the reading app's table Dewey relies on these three columns only."""

    id = UUIDField(primary_key=True, default=uuid4)
    title = CharField()
    author = CharField()

    class Meta:
        table_name = "books"


class ReadingSession(BaseModel):
    """A reader's session with a book. `end_position` 0 means that no progress was reported."""

    id = UUIDField(primary_key=True, default=uuid4)
    user = ForeignKeyField(User, backref="sessions")
    book = ForeignKeyField(Book, backref="sessions")
    started_at = UTCDateTimeField()
    ended_at = UTCDateTimeField(null=True)
    duration_minutes = IntegerField(default=0)
    start_position = IntegerField(default=0)
    end_position = IntegerField(default=0)
    pages_read = IntegerField(default=0)
    device_type = CharField(max_length=50, null=True)
    is_active = BooleanField(default=True)
    created_at = UTCDateTimeField(default=now)

    class Meta:
        table_name = "reading_sessions"

    @classmethod
    def open(cls) -> Expression:
        """Return the condition "active and not ended", which the cleanup index covers."""
        # A literal: SQLite uses a partial index only if it sees the values when it plans.
        return (cls.is_active == SQL("true")) & cls.ended_at.is_null()

    @classmethod
    def abandoned(cls, as_of: datetime, older_than: timedelta) -> Expression:
        """Return the condition "open, and started strictly longer than `older_than` before `as_of`"."""
        return cls.open() & (cls.started_at < as_of - older_than)

    @classmethod
    def list_conditions(cls, as_of: datetime, older_than: timedelta) -> dict[str, Expression]:
        """Return the condition of each list: `active` (all), `abandoned` (some of those) and `closed`.

        A session that ended but is still marked active counts as active: cleanup does not touch it, and the statistics
        count it so. One that is neither active nor ended is in no list and in no statistics.
        """
        return {
            "active": cls.is_active == SQL("true"),
            "abandoned": cls.abandoned(as_of, older_than),
            "closed": (cls.is_active == SQL("false")) & cls.ended_at.is_null(False),
        }

    @classmethod
    def search_conditions(cls, reader: str, book: str) -> list[Expression]:
        """Return the conditions "the reader's address contains `reader`" and "title or author contains `book`"."""
        conditions = []
        if reader:
            conditions.append(ids_or_join(User, User.email.contains(reader), cls.user))
        if book:
            conditions.append(ids_or_join(Book, Book.title.contains(book) | Book.author.contains(book), cls.book))
        return conditions

    @classmethod
    def with_reader_and_book(cls, *conditions: Expression) -> "ModelSelect[ReadingSession]":
        """Return sessions with `email`, `title` and `author`. These are None if their row is missing."""
        instants = {
            # PostgreSQL's infinity has no counterpart in Python.
            name: fn.NULLIF(fn.NULLIF(field, "-infinity"), "infinity").python_value(field.python_value).alias(name)
            for name, field in (("started_at", cls.started_at), ("ended_at", cls.ended_at))
        }
        columns = [instants.get(field.name, field) for field in cls._meta.sorted_fields if field.name != "created_at"]
        query = (
            cls.select(*columns, User.email, Book.title, Book.author)
            .join_from(cls, User, JOIN.LEFT_OUTER)
            .join_from(cls, Book, JOIN.LEFT_OUTER)
            .objects()
        )
        return query.where(*conditions)


def ids_or_join(model: type[User] | type[Book], condition: Expression, key: ForeignKeyField) -> Expression:
    """Return `condition` on the rows of `model`, as a list of ids if they are few.

    The index on a session's reader or book then finds the sessions. With many ids a scan finds sessions soon enough.
    """
    ids = [row.id for row in model.select(model.id).where(condition).limit(MAX_IDS + 1)]
    return key.in_(ids) if len(ids) <= MAX_IDS else condition


class BookFile(BaseModel):
    """A book that Dewey processes: its file, its figures and its progress. `book_id` is the id in `books`.

    States: queued, processing, completed, failed.
    """

    book_id = UUIDField(primary_key=True, default=uuid4)
    sha256 = TextField(unique=True, null=True)
    original_name = TextField()
    format = TextField(null=True)  # epub, fb2, fb2.zip, txt
    encoding = TextField(null=True)
    language = TextField(null=True)
    size_bytes = BigIntegerField()
    title = TextField()
    author = TextField()
    state = TextField()
    progress = IntegerField(default=0)  # percent; never falls
    error_code = TextField(null=True)
    error_detail = TextField(null=True)
    warnings = JSONTextField(null=True)
    kept_share = DoubleField(null=True)  # letters of the file's text that reached a chapter, 0 to 1
    chapters_total = IntegerField(null=True)
    chapters_done = IntegerField(default=0)
    words = IntegerField(default=0)
    minutes = IntegerField(default=0)
    passages = IntegerField(default=0)
    pictures = IntegerField(default=0)
    run_id = TextField(null=True)
    requeued = IntegerField(default=0)  # by `requeue_stuck_books`
    added_by = TextField()
    added_at = UTCDateTimeField(default=now)
    started_at = UTCDateTimeField(null=True)
    finished_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_books"


class Chapter(BaseModel):
    """A stored chapter of a book. Its id depends on book and number only, so a second run keeps it."""

    id = UUIDField(primary_key=True)
    book = ForeignKeyField(BookFile, backref="chapters", on_delete="CASCADE", index=False)
    number = IntegerField()  # from 1
    title = TextField()
    level = IntegerField()
    source_ref = TextField()
    content = TextField()
    content_sha256 = TextField()
    characters = IntegerField()
    words = IntegerField()
    minutes = IntegerField()
    is_service_page = BooleanField()
    passages = IntegerField(default=0)
    parser_version = IntegerField()
    processed_at = UTCDateTimeField(default=now)

    class Meta:
        table_name = "dewey_chapters"
        indexes = ((("book", "number"), True),)


class Passage(BaseModel):
    """A passage that is worth a picture. Its id depends on chapter and text, so a second run keeps it."""

    id = UUIDField(primary_key=True)
    chapter = ForeignKeyField(Chapter, backref="found_passages", on_delete="CASCADE", index=False)
    type = TextField()  # location, character, atmosphere
    content = TextField()
    position_start = IntegerField()
    position_end = IntegerField()
    words = IntegerField()
    confidence = DoubleField()  # 0 to 1
    priority = DoubleField()  # 0 to 100

    class Meta:
        table_name = "dewey_passages"
        indexes = ((("chapter", "position_start"), True),)


class CreatedTable(BaseModel):
    """A table of the reading app that a migration created. Tables that existed before are not listed."""

    name = TextField(primary_key=True)

    class Meta:
        table_name = "dewey_own_tables"


class Operator(BaseModel):
    """A user of the console. Roles: viewer, operator, admin."""

    id = AutoField()
    email = CharField(unique=True)  # lower case
    password_hash = TextField()
    role = CharField(max_length=16)
    created_at = UTCDateTimeField(default=now)
    disabled_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_operators"


class BrowserSession(BaseModel):
    """A signed-in browser. Ending it invalidates every copy of its cookie. `digest`: SHA-256 of the cookie's secret."""

    digest = CharField(max_length=64, primary_key=True)
    operator = ForeignKeyField(Operator, backref="sign_ins", on_delete="CASCADE")
    created_at = UTCDateTimeField(default=now)
    seen_at = UTCDateTimeField(default=now)
    ended_at = UTCDateTimeField(null=True)
    address = TextField(null=True)
    agent = TextField(null=True)

    class Meta:
        table_name = "dewey_sign_ins"


class Token(BaseModel):
    """An API bearer token. Only its SHA-256 is stored. The token itself is shown once, at its creation."""

    id = AutoField()
    name = CharField(unique=True)
    digest = CharField(max_length=64, unique=True)
    role = CharField(max_length=16)
    created_at = UTCDateTimeField(default=now)
    expires_at = UTCDateTimeField(null=True)
    used_at = UTCDateTimeField(null=True)
    revoked_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_tokens"


class SavedView(BaseModel):
    """A saved filter of the list of runs. Only its `owner` sees it unless it is shared."""

    id = AutoField()
    name = CharField(max_length=60)
    search = TextField()  # as typed into the search box
    owner = TextField()
    shared = BooleanField(default=False)
    created_at = UTCDateTimeField(default=now)

    class Meta:
        table_name = "dewey_views"
        indexes = ((("owner", "name"), True),)


class IdempotencyRecord(BaseModel):
    """The first response to a request with an Idempotency-Key. The columns are empty until the request has ended."""

    name = CharField(max_length=64, primary_key=True)  # SHA-256 of the requester and the key
    request = CharField(max_length=64)  # SHA-256 of the request
    status = IntegerField(null=True)
    content_type = TextField(null=True)
    body = TextField(null=True)
    created_at = UTCDateTimeField(default=now, index=True)

    class Meta:
        table_name = "dewey_kept_answers"


class AuditEntry(BaseModel):
    """An action of a user: actor, action, target, time and address. Rows are only added, by `admin.audit_log`."""

    id = AutoField()
    at = UTCDateTimeField(default=now, index=True)
    actor_kind = CharField(max_length=16)  # operator, token, cli
    actor = TextField()
    source = CharField(max_length=8)  # web, api, cli
    action = TextField()  # the operation's name, such as sessions.close
    target = TextField(null=True, index=True)
    before = JSONTextField(null=True)
    after = JSONTextField(null=True)
    address = TextField(null=True)
    previous = TextField(default="")  # the hash of the previous row
    hash = TextField(default="")  # of this row and the previous hash: see `engine.hash_chain`

    class Meta:
        table_name = "dewey_audit"
        indexes = ((("actor", "at", "id"), False), (("action", "at", "id"), False))


class AuditHead(BaseModel):
    """The single row that marks the end of the audit log. Appending locks it."""

    id = IntegerField(primary_key=True)
    last_id = IntegerField()
    hash = TextField()
    seal = TextField()

    class Meta:
        table_name = "dewey_audit_head"


class HttpCount(BaseModel):
    """Number of requests that all web processes have ever answered. `bucket`: see admin/api/request_metrics.py."""

    endpoint = TextField()  # a view's name; empty if no view answered
    method = TextField()
    status = IntegerField()
    bucket = IntegerField()
    count = BigIntegerField()

    class Meta:
        table_name = "dewey_http_counts"
        primary_key = CompositeKey("endpoint", "method", "status", "bucket")


READING_APP_TABLES = (User, Book, ReadingSession)


def owns_reading_tables() -> bool:
    """True if Dewey created the reading app's three tables, so that sample data may be loaded."""
    names = [model._meta.table_name for model in READING_APP_TABLES]
    return bool(CreatedTable.select().where(CreatedTable.name.in_(names)).count() == len(names))
