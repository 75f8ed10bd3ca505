"""The header of a message, which can be read without its key."""

from typing import NamedTuple
from uuid import uuid4


class Header(NamedTuple):
    task: str  # dotted
    attempt: int
    run_id: str

    @property
    def short_name(self) -> str:
        return self.task.rpartition(".")[2]


def parse_header(data: bytes) -> Header | None:
    words = bytes(data[:1000]).split(b" ", 5)
    try:
        return Header(words[2].decode(), int(words[3]), words[4].decode()) if words[1] == b"run" else None
    except (IndexError, ValueError):
        return None


def message_id(data: bytes) -> str:
    """Return the id of the message's run. A new id for bytes that are not a message."""
    header = parse_header(data)
    return header.run_id if header else str(uuid4())
