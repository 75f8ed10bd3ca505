"""Parsed tracebacks: frames of project code are shown first, the others on demand."""

import re
from functools import cache
from pathlib import PurePath
from typing import NamedTuple

from config import ROOT

FRAME_PATTERN = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)')
LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|python3(\.\d+)?)[/\\]|^<")
HEADING = "Traceback (most recent call last):"


class Frame(NamedTuple):
    """`place` is `reading/books.py:88, in open_epub`. `code` has its lines as Python printed them."""

    place: str
    code: str
    own: bool


class Traceback(NamedTuple):
    """`frames` are those of the last exception, innermost last. `cause` is its message."""

    frames: list[Frame]
    cause: str

    @property
    def own(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.own]


def parse_traceback(text: str) -> Traceback:
    """Parse any text. Text that is not a traceback has no frames and becomes the cause."""
    last = text.rpartition(HEADING)[2].strip("\n").split("\n")
    frames: list[tuple[re.Match[str], list[str]]] = []
    for number, line in enumerate(last):
        if frame := FRAME_PATTERN.fullmatch(line):
            frames.append((frame, []))
        elif frames and line.startswith("    "):
            frames[-1][1].append(line)
        elif frames and not line.startswith("  "):
            return Traceback(mark_own_frames(frames), "\n".join(last[number:]))
    return Traceback(mark_own_frames(frames), "" if frames else text.strip("\n"))


def mark_own_frames(frames: list[tuple[re.Match[str], list[str]]]) -> list[Frame]:
    """Mark project files outside `engine`. Without any, mark all files outside libraries."""
    files = [frame["file"] for frame, _ in frames if not is_framework_file(frame["file"])]
    own = {file for file in files if is_project_file(file)} or {file for file in files if not LIBRARY.search(file)}
    return [
        Frame(
            f"{display_path(frame['file'])}:{frame['line']}, in {frame['function']}",
            "\n".join(code),
            frame["file"] in own,
        )
        for frame, code in frames
    ]


@cache
def is_project_file(file: str) -> bool:
    return PurePath(file).is_relative_to(ROOT) and not LIBRARY.search(file)


@cache
def is_framework_file(file: str) -> bool:
    return "engine" in PurePath(display_path(file)).parts[-3:-1]  # directly in `engine` or in one of its rooms


@cache
def display_path(file: str) -> str:
    path = PurePath(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else file
