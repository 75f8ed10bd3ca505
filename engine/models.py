"""What the engine remembers: runs, their attempts, the consumers, and how far the history has been read."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DoubleField,
    IntegerField,
    Model,
    TextField,
)

from engine.database import JSONTextField, UTCDateTimeField, database
from engine.outcomes import args_to_json, recorded_args


class State(StrEnum):
    """The states of a run, and of an attempt that its worker has finished with."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"


class AttemptState(StrEnum):
    """How an attempt ended without an outcome of its task."""

    DIED = "died"  # with its worker
    RETURNED = "returned"  # to the queue, by a worker that stopped
    PUT_OFF = "put_off"  # by a consumer that does not know the task


ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.DEAD)


class BaseModel(Model):
    class Meta:
        database = database
        legacy_table_names = False


class ArgumentsField(JSONTextField):
    """The arguments of a message as they travelled, read as their caller gave them."""

    def db_value(self, value: Any) -> object:
        return super().db_value(value and args_to_json(value))

    def python_value(self, value: Any) -> list[object] | None:
        return recorded_args(super().python_value(value))


class Run(BaseModel):
    """One call of a task, from enqueuing to its end. `id` is Huey's task id; `task` the bare name of the function."""

    id = TextField(primary_key=True)
    task = TextField()
    queue = TextField()
    state = TextField()
    args = ArgumentsField(null=True)
    kwargs = JSONTextField(null=True)
    priority = DoubleField(null=True)
    retries = IntegerField(default=0)  # allowed after the first attempt
    asked_by_kind = TextField(null=True)  # schedule, operator, token, cli, run, code
    asked_by = TextField(null=True)
    parent_id = TextField(null=True)
    code_version = TextField(null=True)
    enqueued_at = UTCDateTimeField()
    due_at = UTCDateTimeField(null=True)  # scheduled and retrying: when it goes to its queue
    started_at = UTCDateTimeField(null=True)
    ended_at = UTCDateTimeField(null=True)
    instant_at = UTCDateTimeField(null=True)  # the one instant that the run's work counts as done at
    wait_ms = DoubleField(null=True)  # from due (or enqueued) to the first start
    run_ms = DoubleField(null=True)  # of the last attempt
    attempts = IntegerField(default=0)
    deliveries = IntegerField(default=0)
    worker = TextField(null=True)
    result = JSONTextField(null=True)
    error = TextField(null=True)
    error_group = TextField(null=True)  # of that error: an ErrorGroup
    progress_done = DoubleField(null=True)  # as its task tells it, while it runs
    progress_total = DoubleField(null=True)
    progress_text = TextField(null=True)

    class Meta:
        table_name = "dewey_runs"

    @classmethod
    def recent(cls, limit: int = 10) -> list["Run"]:
        """The newest runs, newest first."""
        return list(cls.select().order_by(cls.enqueued_at.desc(), cls.id.desc()).limit(limit))

    @property
    def history(self) -> list["Attempt"]:
        """Its attempts, first to last, those that died with their worker included."""
        return list(Attempt.select().where(Attempt.run_id == self.id).order_by(Attempt.number))


class Attempt(BaseModel):
    """One start of a run. `number` counts starts; `attempt` does not count those that died with their worker.

    `put_off` is no start: the consumer's code did not know the task.
    """

    run_id = TextField()
    number = IntegerField()
    attempt = IntegerField()
    state = TextField()
    worker = TextField(null=True)
    code_version = TextField(null=True)
    started_at = UTCDateTimeField(null=True)
    ended_at = UTCDateTimeField(null=True)
    run_ms = DoubleField(null=True)
    next_at = UTCDateTimeField(null=True)  # when the attempt after a failed one is due
    error = TextField(null=True)
    error_group = TextField(null=True)
    traceback = TextField(null=True)

    class Meta:
        table_name = "dewey_attempts"
        primary_key = CompositeKey("run_id", "number")


class ErrorGroup(BaseModel):
    """Failures that are alike: of one task, with one exception, from one place in the code.

    `state`: open, resolved, or regressed: failed again after it was resolved. Snoozed is what is not resolved and has
    a `snoozed_until` that is still to come.
    """

    id = TextField(primary_key=True)
    task = TextField()
    exception = TextField()
    place = TextField()  # `reading/books.py, in open_epub`; empty where no code of one's own is in the traceback
    code = TextField()  # the line there; else the message, without what varies
    message = TextField()  # of the latest
    first_seen_at = UTCDateTimeField()
    first_version = TextField(null=True)  # of the code that failed so first
    last_seen_at = UTCDateTimeField()
    last_version = TextField(null=True)
    state = TextField()
    resolved_at = UTCDateTimeField(null=True)  # also of one that regressed since
    resolved_by = TextField(null=True)
    regressed_at = UTCDateTimeField(null=True)
    snoozed_until = UTCDateTimeField(null=True)
    snoozed_by = TextField(null=True)

    class Meta:
        table_name = "dewey_errors"
        indexes = ((("last_seen_at", "id"), False),)


class LogLine(BaseModel):
    """A line that was logged while an attempt ran. `number` counts from 1; a gap at the end tells of lines left out."""

    run_id = TextField()
    delivery = IntegerField()  # the attempt's `number`
    number = IntegerField()
    at = UTCDateTimeField()
    level = TextField()
    logger = TextField()
    text = TextField()

    class Meta:
        table_name = "dewey_log_lines"
        primary_key = CompositeKey("run_id", "delivery", "number")


class RunCount(BaseModel):
    """How many runs of a task: sums that stay when the runs are pruned, and are exact while they are not.

    `span` seconds (60, 3600 or 86400) from `start` (Unix seconds) on; both 0: all time, of which nothing is subtracted.
    `what`: a state in which runs ended then, `again` for those of them that took several attempts; `retried` for
    attempts that failed then and were tried again; `waited` and `ran` for durations, with their `bucket`; `error:<id>`
    for failed attempts of an ErrorGroup.
    """

    span = IntegerField()
    start = BigIntegerField()
    task = TextField()
    queue = TextField()
    what = TextField()
    bucket = IntegerField()  # of a duration: see `bucket_of`; else 0
    count = BigIntegerField()

    class Meta:
        table_name = "dewey_run_counts"
        primary_key = CompositeKey("span", "what", "start", "task", "queue", "bucket")


class Tick(BaseModel):
    """A minute at which the clock should start a task, and what came of it.

    `state`: `enqueued`; `late`: caught up after its minute; `missed`: nobody was there, and it is not made up for;
    `paused`: the schedule was.
    """

    task = TextField()
    due_at = UTCDateTimeField()
    queue = TextField()
    state = TextField()
    run_id = TextField(null=True)
    seen_at = UTCDateTimeField()

    class Meta:
        table_name = "dewey_ticks"
        primary_key = CompositeKey("task", "due_at")


class BulkAction(BaseModel):
    """A command given to many runs at once: `retry`, `cancel` or `delete`. A task works off its items."""

    id = AutoField()
    verb = TextField()
    search = TextField(null=True)  # the filter that chose the runs; None where they were ticked
    asked_by_kind = TextField()
    asked_by = TextField()
    created_at = UTCDateTimeField()
    run_id = TextField(null=True)  # of the task
    total = IntegerField()
    done = IntegerField(default=0)
    refused = IntegerField(default=0)
    stopped_at = UTCDateTimeField(null=True)  # somebody wants no more of it
    stopped_by = TextField(null=True)
    ended_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_bulks"


class BulkActionItem(BaseModel):
    """One of its runs. `state`: waiting, doing, done, refused or skipped (it was stopped before). `reason`: why
    it was refused, or what is to be said of what was done.
    """

    bulk_id = IntegerField()
    number = IntegerField()
    run_id = TextField()
    state = TextField()
    reason = TextField(null=True)
    claim = TextField(null=True)  # which execution of the task is doing it

    class Meta:
        table_name = "dewey_bulk_items"
        primary_key = CompositeKey("bulk_id", "number")


class Consumer(BaseModel):
    """One consumer: a parent process that serves one queue with `worker_count` workers."""

    LATE_AFTER = timedelta(seconds=8)
    #: One that was not heard of for so long is not worth a row.
    RETENTION = timedelta(days=1)

    id = TextField(primary_key=True)  # host:pid:random
    queue = TextField()
    host = TextField()
    pid = IntegerField()
    code_version = TextField()
    worker_type = TextField()
    worker_count = IntegerField()
    periodic = BooleanField()
    started_at = UTCDateTimeField()
    beat_at = UTCDateTimeField()
    stopped_at = UTCDateTimeField(null=True)
    quiet_at = UTCDateTimeField(null=True)  # since when it takes nothing new; what runs goes on
    scheduler_at = UTCDateTimeField(null=True)  # when its scheduler last looked at the clock
    rss_bytes = BigIntegerField(default=0)  # parent and children
    cpu_percent = DoubleField(default=0)
    processed = BigIntegerField(default=0)  # attempts ended since its start
    failed = BigIntegerField(default=0)
    running = JSONTextField(default=list)  # [{"worker", "run_id", "task", "since"}]
    slots = JSONTextField(default=list)  # [{"worker", "pid", "rss_bytes", "cpu_percent"}]

    class Meta:
        table_name = "dewey_workers"

    def state(self, now: datetime, lease: timedelta) -> str:
        """`live`, `late` (silent for some seconds), `lost` (for a whole lease), `stopped` (said goodbye)."""
        silent = now - self.beat_at
        if self.stopped_at:
            return "stopped"
        if silent > max(lease, self.LATE_AFTER):
            return "lost"
        return "late" if silent > self.LATE_AFTER else "live"


class HistoryCursor(BaseModel):
    """How far a broker's stream of events has been written into the records, how many events were dropped unread, and
    how many were rejected.
    """

    stream = TextField(primary_key=True)
    position = BigIntegerField()
    dropped = BigIntegerField(default=0)
    rejected = BigIntegerField(default=0)

    class Meta:
        table_name = "dewey_history_cursors"


class RejectedEvent(BaseModel):
    """An event that could not be written down: code cannot understand it, or the database refuses its row."""

    id = AutoField()
    queue = TextField()
    stream = TextField()
    position = BigIntegerField()  # in the stream
    run_id = TextField(null=True)  # as far as the line can be read, and so is its kind
    kind = TextField(null=True)
    reason = TextField()
    line = TextField()  # bytes that are no text as escapes; a long one is cut
    rejected_at = UTCDateTimeField()

    class Meta:
        table_name = "dewey_rejected_events"
        indexes = ((("rejected_at", "id"), False),)


class OverwrittenRow(BaseModel):
    """The one row that is overwritten to see whether the database accepts writes."""

    id = IntegerField(primary_key=True)
    at = UTCDateTimeField()

    class Meta:
        table_name = "dewey_write_probe"


def now() -> datetime:
    return datetime.now(UTC)


def as_json(record: Model, *leave_out: str) -> dict[str, object]:
    """A record's columns as JSON values; instants in ISO 8601 with offset."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in record.__data__.items()
        if name not in leave_out
    }
