"""Captured log lines and progress of a running attempt.

`capture_logs()` wraps a task's own code. Lines at INFO and above that pass LOG_LEVEL are kept with the attempt, besides
the consumer's log: the first and the last lines, and the number dropped in between. They are sent with the end of the
attempt. While it runs, a thread sends new lines at most twice a second. So logging costs a task no round trip, and a
killed worker loses half a second of log.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import NamedTuple, TypedDict

from engine.back_off import BackOff
from engine.text import MAX_LINE, storable

logger = logging.getLogger(__name__)

HEAD_LINES, HEAD_BYTES = 100, 16 << 10
TAIL_LINES, TAIL_BYTES = 400, 48 << 10
MAX_PROGRESS_TEXT = 200  # characters beside a progress bar
SEND_EVERY = 0.5  # seconds


class LogFacts(TypedDict, total=False):
    """The facts of an event. `left_out`: first and last number of dropped lines, some of which may have been sent."""

    lines: list[list[int | float | str]]  # number, at, level, logger, text
    left_out: list[int]
    progress: list[float | str | None]  # done, total, text


Send = Callable[[LogFacts], object]


class Line(NamedTuple):
    """`number` counts all lines from 1. Missing numbers are dropped lines. `at`: Unix time."""

    number: int
    at: float
    level: str
    logger: str
    text: str


class AttemptLog:
    """The log and the progress of one attempt. `send` gets new data while it runs. Without it, all data waits for the
    end.

    No lock is held while a line is added, as an interruption may come at any instruction.
    """

    head_size = tail_size = count = sent = 0
    progress: tuple[float, float | None, str] | None = None
    progress_sent: list[float | str | None] | None = None

    def __init__(self, send: Send | None = None) -> None:
        self.send = send
        self.head: list[Line] = []
        self.tail: deque[Line] = deque()

    def add(self, at: float, level: str, name: str, text: str) -> None:
        self.count += 1
        text = storable(text, MAX_LINE)
        line, size = Line(self.count, at, level, storable(name, MAX_PROGRESS_TEXT), text), len(text.encode())
        if not self.tail and len(self.head) < HEAD_LINES and self.head_size + size <= HEAD_BYTES:
            self.head.append(line)
            self.head_size += size
        else:
            self.tail.append(line)
            self.tail_size += size
            while len(self.tail) > TAIL_LINES or self.tail_size > TAIL_BYTES:
                self.tail_size -= len(self.tail.popleft().text.encode())
        self.mark_dirty()

    def set_progress(self, done: float, total: float | None, text: str) -> None:
        self.progress = float(done), None if total is None else float(total), storable(text)[:MAX_PROGRESS_TEXT]
        self.mark_dirty()

    def mark_dirty(self) -> None:
        if self.send:
            active_logs.add(self)
            get_flusher().has_news.set()

    def pending(self) -> LogFacts:
        if not self.count and not self.progress:
            return {}
        head, tail = list(self.head), list(self.tail)
        facts: LogFacts = {}
        if lines := [line for line in (*head, *tail) if line.number > self.sent]:
            facts["lines"] = [[line.number, line.at, line.level, line.logger, line.text] for line in lines]
            if tail and tail[0].number > len(head) + 1:
                facts["left_out"] = [len(head) + 1, tail[0].number - 1]
        if self.progress and (progress := list(self.progress)) != self.progress_sent:
            facts["progress"] = progress
        return facts

    def flush(self) -> None:
        facts = self.pending()
        if not (facts and self.send):
            return
        try:
            self.send(facts)
        except Exception as error:  # it is sent with the next data, or with the end
            logger.debug("Log lines and progress of a run could not be sent: %s", error)
            return
        if lines := facts.get("lines"):
            self.sent = int(lines[-1][0])
        if progress := facts.get("progress"):
            self.progress_sent = progress


# --- the log of a context ------------------------------------------------------------------------------------

_context_log: ContextVar[AttemptLog | None] = ContextVar("log", default=None)

#: A worker process runs one task at a time, so lines of its other threads belong to that task.
_process_log: AttemptLog | None = None


def current() -> AttemptLog | None:
    return _context_log.get() or _process_log


def stop() -> None:
    """Capture nothing more in this process. A process forked by a task would reuse the line numbers of its parent."""
    global _process_log
    _process_log = None
    _context_log.set(None)


class capture_logs:
    """A context manager that captures the log of its block: `with capture_logs(send) as log`."""

    def __init__(self, send: Send | None = None) -> None:
        self.log = AttemptLog(send)
        self.token: Token[AttemptLog | None] | None = None

    def __enter__(self) -> AttemptLog:
        global _process_log
        if handler not in root.handlers:
            root.addHandler(handler)
        self.token, self.outer = _context_log.set(self.log), _process_log
        if threading.current_thread() is threading.main_thread():
            _process_log = self.log
        return self.log

    def __exit__(self, *error: object) -> None:
        global _process_log
        _process_log = self.outer
        if self.token:
            _context_log.reset(self.token)
        active_logs.discard(self.log)


class LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if log := current():
            log.add(record.created, record.levelname, record.name, self.text(record))

    def text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception:  # arguments that do not fit the format; the log's own handler reports them
            return str(record.msg)


root = logging.getLogger()
handler = LogHandler(logging.INFO)


# --- sending -------------------------------------------------------------------------------------------------

#: Logs of this process with data to send, whose attempt has not ended.
active_logs: set[AttemptLog] = set()


class LogFlusher(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="Sender", daemon=True)
        self.has_news = threading.Event()

    def run(self) -> None:
        back_off = BackOff("The sender of log lines")
        while True:
            self.has_news.wait()
            time.sleep(SEND_EVERY)
            self.has_news.clear()
            errors = [error for log in list(active_logs) if (error := try_flush(log))]
            for error in errors:
                back_off.failed(error)
            if not errors:
                back_off.succeeded()


def try_flush(log: AttemptLog) -> Exception | None:
    """Send the new data of an attempt and return the error. Data that fails to send is sent with the end."""
    try:
        log.flush()
        return None
    except Exception as error:
        return error


_flusher: LogFlusher | None = None
_starting = threading.Lock()


def get_flusher() -> LogFlusher:
    """Return the running flusher. A forked worker has its parent's object without the thread."""
    global _flusher
    if _flusher is None or not _flusher.is_alive():
        with _starting:
            if _flusher is None or not _flusher.is_alive():
                _flusher = LogFlusher()
                with suppress(RuntimeError):  # if no thread can be started, the data is sent with the end
                    _flusher.start()
    return _flusher
