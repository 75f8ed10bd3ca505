"""Log formats: `[2025-10-28 12:00:00,123: INFO/Worker-1] message`, or one JSON object per line."""

import json
import logging
import threading
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType

from config import settings
from engine.secret_texts import mask_text
from engine.text import escape_controls

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextLines(logging.Formatter):
    """Celery's line format, which existing log filters match. Times are UTC.

    A record cannot forge another one: its message is one line, and its traceback has no line that begins like a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.message = mask_text(record.getMessage())
        line = self.head(record) + escape_controls(record.message)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def head(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return f"[{at:%Y-%m-%d %H:%M:%S},{record.msecs:03.0f}: {record.levelname}/{process_name(record)}] "

    def formatException(self, ei: ExceptionInfo) -> str:
        return "\n".join(traceback_lines(map(mask_text, traceback.format_exception(*ei))))


class ShortLines(TextLines):
    """The format of `huey_consumer -S`: time and message. Times are local."""

    def head(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, self.datefmt)} "


def traceback_lines(parts: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a formatted exception: Python's own as they are, those of a text or a note indented."""
    has_text = False  # the exception's own line has come, so its notes follow
    for part in parts:
        is_frame = part.startswith((" ", "\n", "Traceback "))  # or the heading, or the line between two exceptions
        for number, line in enumerate(part.removesuffix("\n").split("\n")):
            is_own = is_frame or not (number or has_text)
            begins_as_own = line[:1] in ("", " ") or line[0].isidentifier()
            yield escape_controls(line if is_own and begins_as_own else f"    {line}")
        has_text = not is_frame


class JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "process": process_name(record),
            "logger": record.name,
            "message": mask_text(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = mask_text(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def process_name(record: logging.LogRecord) -> str:
    if record.threadName and record.threadName != threading.main_thread().name:
        return record.threadName
    return record.processName or "MainProcess"


def formatter() -> logging.Formatter:
    return JSONLines() if settings.log_format == "json" else TextLines()


def is_simple(formatter: logging.Formatter) -> bool:
    """True for the format of `huey_consumer -S`: time and message."""
    record = logging.LogRecord("dewey", logging.INFO, "", 0, "message", None, None)
    return formatter.format(record) == f"{formatter.formatTime(record, formatter.datefmt)} message"


def adopt_huey_logging() -> None:
    """Use the handler that huey_consumer added to the logger `huey` for every line of the process.

    `-l` sets the file, `-S` keeps its simple format, `-v` and `-q` set the level. Without them Dewey's settings apply.
    """
    huey = logging.getLogger("huey")
    if not huey.handlers:
        return
    root, chosen = logging.getLogger(), huey.level
    for handler in list(huey.handlers):
        huey.removeHandler(handler)
        is_short = handler.formatter is not None and is_simple(handler.formatter)
        handler.setFormatter(ShortLines() if is_short else formatter())
        root.addHandler(handler)
    # huey_consumer sets INFO when neither -v nor -q is given.
    level = chosen if chosen != logging.INFO else logging.getLevelNamesMapping()[settings.log_level]
    root.setLevel(level)
    # Below DEBUG, hide Huey's two lines per task.
    huey.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
    consumer = logging.getLogger("huey.consumer")
    consumer.setLevel(level)
    consumer.addFilter(join_commands)
    logging.getLogger("peewee").setLevel(max(level, logging.INFO))
    logging.getLogger("pymorphy3").setLevel(logging.WARNING)  # it logs each load of its dictionary


def join_commands(record: logging.LogRecord) -> bool:
    """Put Huey's list of tasks on one line. Hide an empty one."""
    record.msg = str(record.msg).replace(":\n+ ", ": ").replace("\n+ ", ", ")
    return record.msg != "The following commands are available:"
