"""The engine's tables: runs, attempts, consumers, counts, and the position of the history."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from peewee import AutoField, BigIntegerField, BooleanField, CompositeKey, DoubleField, IntegerField, Model, TextField

from engine.database import JSONTextField, UTCDateTimeField, database
from engine.outcomes import args_to_json, recorded_args


class State(StrEnum):
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


#: Error of a run that has disappeared from the broker.
LOST_ERROR = "lost: the broker no longer has this run, so its outcome is unknown"

#: Beginning of the error of a dead run whose message was deleted.
DISCARDED = "discarded by "

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.DEAD)


class BaseModel(Model):
    class Meta:
        database = database
        legacy_table_names = False


class ArgumentsField(JSONTextField):
    def db_value(self, value: Any) -> object:
        return super().db_value(value and args_to_json(value))

    def python_value(self, value: Any) -> list[object] | None:
        return recorded_args(super().python_value(value))


class Run(BaseModel):
    """A call of a task, from enqueue to its end. `id` is Huey's task id, `task` the function's bare name."""

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
    due_at = UTCDateTimeField(null=True)  # scheduled and retrying: when it enters its queue
    started_at = UTCDateTimeField(null=True)
    ended_at = UTCDateTimeField(null=True)
    instant_at = UTCDateTimeField(null=True)  # the one time that all work of the run is recorded under
    wait_ms = DoubleField(null=True)  # from due (or enqueued) to the first start
    run_ms = DoubleField(null=True)  # of the last attempt
    attempts = IntegerField(default=0)
    deliveries = IntegerField(default=0)
    worker = TextField(null=True)
    result = JSONTextField(null=True)
    error = TextField(null=True)
    error_group = TextField(null=True)  # the ErrorGroup of that error
    progress_done = DoubleField(null=True)  # set by the task while it runs
    progress_total = DoubleField(null=True)
    progress_text = TextField(null=True)

    class Meta:
        table_name = "dewey_runs"

    @classmethod
    def recent(cls, limit: int = 10) -> list["Run"]:
        return list(cls.select().order_by(cls.enqueued_at.desc(), cls.id.desc()).limit(limit))

    @property
    def history(self) -> list["Attempt"]:
        return list(Attempt.select().where(Attempt.run_id == self.id).order_by(Attempt.number))


class Attempt(BaseModel):
    """A start of a run. `number` counts starts, `attempt` those that did not die with their worker."""

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
    """Failures of one task with one exception from one place in the code.

    `state`: open, resolved, or regressed (failed again after it was resolved). An unresolved group with a future
    `snoozed_until` is snoozed.
    """

    id = TextField(primary_key=True)
    task = TextField()
    exception = TextField()
    place = TextField()  # `reading/books.py, in open_epub`; empty if the traceback has no project code
    code = TextField()  # the line there, else the normalised message
    message = TextField()  # of the latest failure
    first_seen_at = UTCDateTimeField()
    first_version = TextField(null=True)  # of the first failure
    last_seen_at = UTCDateTimeField()
    last_version = TextField(null=True)
    state = TextField()
    resolved_at = UTCDateTimeField(null=True)  # kept when it regresses
    resolved_by = TextField(null=True)
    regressed_at = UTCDateTimeField(null=True)
    snoozed_until = UTCDateTimeField(null=True)
    snoozed_by = TextField(null=True)

    class Meta:
        table_name = "dewey_errors"
        indexes = ((("last_seen_at", "id"), False),)


class LogLine(BaseModel):
    """A log line of an attempt. `number` counts from 1. A gap in the numbers means dropped lines."""

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
    """Sums over runs of a task. They stay when runs are pruned.

    A row covers `span` seconds (60, 3600 or 86400) from `start` (Unix seconds). Both are 0 for all time, where nothing
    is subtracted. `what` is one of:

    a state       runs that ended in it
    again         ended runs with several attempts
    retried       failed attempts that were retried
    error:<id>    failed attempts of an ErrorGroup
    waited, ran   durations, by `bucket`
    """

    span = IntegerField()
    start = BigIntegerField()
    task = TextField()
    queue = TextField()
    what = TextField()
    bucket = IntegerField()  # of a duration: see `duration_bucket`; else 0
    count = BigIntegerField()

    class Meta:
        table_name = "dewey_run_counts"
        primary_key = CompositeKey("span", "what", "start", "task", "queue", "bucket")


class Tick(BaseModel):
    """A minute at which a schedule should start a task, and its outcome.

    `state`: `enqueued`, `late` (caught up after its minute), `missed` (no consumer ran) or `paused` (by a pause of the
    schedule).
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
    """A command for many runs: `retry`, `cancel` or `delete`. A task processes its items."""

    id = AutoField()
    verb = TextField()
    search = TextField(null=True)  # the filter that selected the runs; None if they were selected one by one
    asked_by_kind = TextField()
    asked_by = TextField()
    created_at = UTCDateTimeField()
    run_id = TextField(null=True)  # the run of the task
    total = IntegerField()
    done = IntegerField(default=0)
    refused = IntegerField(default=0)
    stopped_at = UTCDateTimeField(null=True)  # set when a user stopped it
    stopped_by = TextField(null=True)
    ended_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_bulks"


class BulkActionItem(BaseModel):
    """A run of a bulk action. `state`: waiting, doing, done, refused, or skipped after a stop.

    `reason`: why it was refused, or a note on what was done.
    """

    bulk_id = IntegerField()
    number = IntegerField()
    run_id = TextField()
    state = TextField()
    reason = TextField(null=True)
    claim = TextField(null=True)  # the execution that processes it

    class Meta:
        table_name = "dewey_bulk_items"
        primary_key = CompositeKey("bulk_id", "number")


class Consumer(BaseModel):
    LATE_AFTER = timedelta(seconds=8)
    #: Rows of consumers without a heartbeat for this long are deleted.
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
    quiet_at = UTCDateTimeField(null=True)  # since when it takes no new runs; running ones continue
    scheduler_at = UTCDateTimeField(null=True)  # when its scheduler last checked the schedules
    rss_bytes = BigIntegerField(default=0)  # parent and children
    cpu_percent = DoubleField(default=0)
    processed = BigIntegerField(default=0)  # attempts ended since its start
    failed = BigIntegerField(default=0)
    book_folder = TextField(null=True)  # see engine.book_folder
    running = JSONTextField(default=list)  # [{"worker", "run_id", "task", "since"}]
    slots = JSONTextField(default=list)  # [{"worker", "pid", "rss_bytes", "cpu_percent"}]

    class Meta:
        table_name = "dewey_workers"

    def state(self, now: datetime, lease: timedelta) -> str:
        """Return `live`, `late` (no heartbeat for some seconds), `lost` (for a whole lease) or `stopped`."""
        silent = now - self.beat_at
        if self.stopped_at:
            return "stopped"
        if silent > max(lease, self.LATE_AFTER):
            return "lost"
        return "late" if silent > self.LATE_AFTER else "live"


class HistoryCursor(BaseModel):
    """How far a broker's event stream has been written to the database, and its dropped and rejected events.

    Events up to `signed_from` need no signature: code before `upgraded_at` wrote them. None: no consumer of the new
    code has served the queue yet. 0: the stream is newer than that code.
    """

    stream = TextField(primary_key=True)
    position = BigIntegerField()
    dropped = BigIntegerField(default=0)
    rejected = BigIntegerField(default=0)
    signed_from = BigIntegerField(null=True)
    upgraded_at = UTCDateTimeField(null=True)

    class Meta:
        table_name = "dewey_history_cursors"


class RejectedEvent(BaseModel):
    id = AutoField()
    queue = TextField()
    stream = TextField()
    position = BigIntegerField()  # in the stream
    run_id = TextField(null=True)  # None if the line cannot be parsed; the same for `kind`
    kind = TextField(null=True)
    reason = TextField()
    line = TextField()  # bytes that are not text are escaped; long lines are cut
    rejected_at = UTCDateTimeField()

    class Meta:
        table_name = "dewey_rejected_events"
        indexes = ((("rejected_at", "id"), False),)


class OverwrittenRow(BaseModel):
    """The one row that is overwritten to check that the database accepts writes."""

    id = IntegerField(primary_key=True)
    at = UTCDateTimeField()

    class Meta:
        table_name = "dewey_write_probe"


def now() -> datetime:
    return datetime.now(UTC)


def as_json(record: Model, *leave_out: str) -> dict[str, object]:
    """Return a record's columns as JSON values. Times are ISO 8601 with offset."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in record.__data__.items()
        if name not in leave_out
    }
