"""Stack dumps of running processes on SIGQUIT, even if they hang in C code that holds the GIL.

A signal handler in C writes the stack into a file that parent and child share.
"""

import faulthandler
import linecache
import os
import re
import signal
import tempfile
from contextlib import suppress

SIGNAL = signal.SIGQUIT

#: `faulthandler` cuts a deep recursion at 100 frames. This limit is for very many threads.
MAX_BYTES = 100_000

FRAME = re.compile(r'  File (?P<file>"[^"]*"|<[^>]*>), line (?P<line>\d+) in (?P<function>.*)')
THREAD = re.compile(r"(Current thread|Thread) .*\(most recent call first\):")


class StackDumpFile:
    """The file into which one worker writes its stack. It is opened before the fork, so parent and worker share it."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def install_handler(self) -> None:
        faulthandler.register(SIGNAL, self.file, all_threads=True)

    def request(self, pid: int) -> None:
        self.clear()
        with suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)

    def write(self) -> None:
        """Write the stacks of this process, if the workers are its threads."""
        self.clear()
        faulthandler.dump_traceback(self.file, all_threads=True)

    def clear(self) -> None:
        self.file.truncate(0)
        self.file.seek(0)

    def read(self) -> str:
        return format_stack(os.pread(self.file.fileno(), MAX_BYTES, 0).decode(errors="replace"))


def format_stack(dumped: str) -> str:
    """Format a dump as Python prints a traceback: the innermost frame last, with its line of code."""
    threads: list[tuple[str, list[str]]] = []
    for line in dumped.splitlines():
        if THREAD.fullmatch(line):
            threads.append(("Traceback (most recent call last):", []))
        elif threads and line.strip():
            threads[-1][1].append(format_frame(line))
    # A worker's oldest thread runs the task. `faulthandler` begins with the newest.
    return "\n".join("\n".join([title, *reversed(frames)]) for title, frames in reversed(threads))


def format_frame(line: str) -> str:
    match = FRAME.fullmatch(line)
    if not match:
        return line
    file = match["file"].strip('"')
    code = linecache.getline(file, int(match["line"])).strip()
    return f'  File "{file}", line {match["line"]}, in {match["function"]}' + (f"\n    {code}" if code else "")
