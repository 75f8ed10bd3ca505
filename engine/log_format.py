"""Log formats: `[2025-10-28 12:00:00,123: INFO/Worker-1] message`, or one JSON object per line."""

import json
import logging
import threading
from datetime import UTC, datetime

from config import settings


class TextLines(logging.Formatter):
    """Celery's line format, which existing log filters match. Times are UTC."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        head = f"[{at:%Y-%m-%d %H:%M:%S},{record.msecs:03.0f}: {record.levelname}/{process_name(record)}] "
        record.message = record.getMessage()
        line = head + with_traceback(self, record)
        return line if line.isascii() else line.encode("utf-8", "backslashreplace").decode()


class JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "process": process_name(record),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def with_traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return f"{record.message}\n{formatter.formatException(record.exc_info)}" if record.exc_info else record.message


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
        if handler.formatter is None or not is_simple(handler.formatter):
            handler.setFormatter(formatter())
        root.addHandler(handler)
    # huey_consumer sets INFO when neither -v nor -q is given.
    level = chosen if chosen != logging.INFO else logging.getLevelNamesMapping()[settings.log_level]
    root.setLevel(level)
    # Below DEBUG, hide Huey's two lines per task.
    huey.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
    consumer = logging.getLogger("huey.consumer")
    consumer.setLevel(level)
    # The list of commands is empty for a queue without tasks.
    consumer.addFilter(lambda record: record.getMessage() != "The following commands are available:")
    logging.getLogger("peewee").setLevel(max(level, logging.INFO))
