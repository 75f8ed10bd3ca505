"""What a running attempt tells of itself: the lines that it logs, and how far it has come.

`captured()` stands around a task's own code. What it logs at INFO and above, where LOG_LEVEL lets that pass, is kept
with the attempt as well as written to the consumer's log: the first lines and the last, with the number of those left
out between. It goes out with the end of the attempt; while the attempt runs, a thread sends what is new twice a second
at most. So a task pays no round trip for what it tells, and a worker that is killed takes half a second of it along.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from engine.back_off import BackOff
from engine.text import MAX_LINE, storable

logger = logging.getLogger(__name__)

HEAD_LINES, HEAD_BYTES = 100, 16 << 10
TAIL_LINES, TAIL_BYTES = 400, 48 << 10
MAX_PROGRESS_TEXT = 200  # characters beside a progress bar
SEND_EVERY = 0.5  # seconds

Send = Callable[[dict[str, Any]], object]


class Line(NamedTuple):
    """`number` counts from 1 what was logged; the numbers that are missing tell of lines left out. `at`: Unix time."""

    number: int
    at: float
    level: str
    logger: str
    text: str


class Notes:
    """The notes of one attempt. `send` takes what is new while it runs; without one, all of it waits for the end.

    No lock is held while a line is added: the exception that cuts a task short may come at any instruction.
    """

    head_size = tail_size = count = sent = 0
    progress: tuple[float, float | None, str] | None = None
    progress_sent: tuple[float, float | None, str] | None = None

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
        self.ring()

    def come_to(self, done: float, total: float | None, text: str) -> None:
        self.progress = float(done), None if total is None else float(total), storable(text)[:MAX_PROGRESS_TEXT]
        self.ring()

    def ring(self) -> None:
        if self.send:
            telling.add(self)
            sender().news.set()

    def news(self) -> dict[str, Any]:
        """What was not sent yet, as facts of an event; empty where there is nothing.

        `lines`: [number, at, level, logger, text]; `left_out`: the first and the last number of lines that are given
        up, though they may have been sent; `progress`: [done, total, text].
        """
        if not self.count and not self.progress:
            return {}
        head, tail = list(self.head), list(self.tail)
        facts: dict[str, Any] = {}
        if lines := [list(line) for line in (*head, *tail) if line.number > self.sent]:
            facts["lines"] = lines
            if tail and tail[0].number > len(head) + 1:
                facts["left_out"] = [len(head) + 1, tail[0].number - 1]
        if self.progress != self.progress_sent and self.progress:
            facts["progress"] = list(self.progress)
        return facts

    def send_news(self) -> None:
        facts = self.news()
        if not (facts and self.send):
            return
        try:
            self.send(facts)
        except Exception as error:  # it goes out with the next news, or with the end
            logger.debug("What a run tells could not be sent: %s", error)
            return
        if lines := facts.get("lines"):
            self.sent = lines[-1][0]
        if progress := facts.get("progress"):
            self.progress_sent = tuple(progress)


# --- whose line it is ----------------------------------------------------------------------------------------

of_context: ContextVar[Notes | None] = ContextVar("notes", default=None)

#: A worker process runs one task at a time, so whatever its other threads log belongs to that one.
of_process: Notes | None = None


def current() -> Notes | None:
    """The notes of the attempt that is running here."""
    return of_context.get() or of_process


def stop() -> None:
    """Take no notes in this process: one forked by a task would give its lines the numbers of its parent's lines."""
    global of_process
    of_process = None
    of_context.set(None)


class captured:
    """A block whose notes are taken: `with captured(send) as notes`. They are complete when it has ended."""

    def __init__(self, send: Send | None = None) -> None:
        self.notes = Notes(send)
        self.token: Token[Notes | None] | None = None

    def __enter__(self) -> Notes:
        global of_process
        if handler not in root.handlers:
            root.addHandler(handler)
        self.token, self.outer = of_context.set(self.notes), of_process
        if threading.current_thread() is threading.main_thread():
            of_process = self.notes
        return self.notes

    def __exit__(self, *error: object) -> None:
        global of_process
        of_process = self.outer
        if self.token:
            of_context.reset(self.token)
        telling.discard(self.notes)


class NoteTaker(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if notes := current():
            notes.add(record.created, record.levelname, record.name, self.text(record))

    def text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception:  # words that do not fit their arguments; the log's own handler says so
            return str(record.msg)


root = logging.getLogger()
handler = NoteTaker(logging.INFO)


# --- sending -------------------------------------------------------------------------------------------------

#: The attempts in this process that have told something, and have not ended.
telling: set[Notes] = set()


class Sender(threading.Thread):
    """One to a process, from the first word on. Between two rounds it sleeps, however much is told."""

    def __init__(self) -> None:
        super().__init__(name="Sender", daemon=True)
        self.news = threading.Event()

    def run(self) -> None:
        back_off = BackOff("The sender of log lines")
        while True:
            self.news.wait()
            time.sleep(SEND_EVERY)
            self.news.clear()
            errors = [error for notes in list(telling) if (error := error_of_sending(notes))]
            for error in errors:
                back_off.failed(error)
            if not errors:
                back_off.succeeded()


def error_of_sending(notes: Notes) -> Exception | None:
    """Send what is new of an attempt. What cannot be sent now goes out with its end."""
    try:
        notes.send_news()
        return None
    except Exception as error:
        return error


the_sender: Sender | None = None
starting = threading.Lock()


def sender() -> Sender:
    """The running one. A forked worker has the object of its parent, without its thread."""
    global the_sender
    if the_sender is None or not the_sender.is_alive():
        with starting:
            if the_sender is None or not the_sender.is_alive():
                the_sender = Sender()
                with suppress(RuntimeError):  # no thread can be started: what there is goes out with the end
                    the_sender.start()
    return the_sender
