"""Where the code of a process is right now, asked from outside: also while it is stuck in C code that keeps the GIL.

SIGQUIT, as with other runtimes. A signal handler in C writes the answer, into a file that parent and child share.
"""

import faulthandler
import linecache
import os
import re
import signal
import tempfile
from contextlib import suppress

SIGNAL = signal.SIGQUIT

#: The answer of a deep recursion is cut by `faulthandler` at 100 frames; this is for very many threads.
LONGEST = 100_000

FRAME = re.compile(r'  File (?P<file>"[^"]*"|<[^>]*>), line (?P<line>\d+) in (?P<function>.*)')
THREAD = re.compile(r"(Current thread|Thread) .*\(most recent call first\):")


class StackFile:
    """One for each worker, made before the fork."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def listen(self) -> None:
        """In the worker: from now on the signal is answered."""
        faulthandler.register(SIGNAL, self.file, all_threads=True)

    def ask(self, pid: int) -> None:
        """In the parent."""
        self.clear()
        with suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)

    def write(self) -> None:
        """Of this very process, where the workers are its threads."""
        self.clear()
        faulthandler.dump_traceback(self.file, all_threads=True)

    def clear(self) -> None:
        self.file.truncate(0)
        self.file.seek(0)

    def read(self) -> str:
        """The answer, if there is one."""
        return in_words(os.pread(self.file.fileno(), LONGEST, 0).decode(errors="replace"))


def in_words(dumped: str) -> str:
    """As Python prints a traceback: the innermost frame last, with its line of code."""
    threads: list[tuple[str, list[str]]] = []
    for line in dumped.splitlines():
        if THREAD.fullmatch(line):
            threads.append(("Traceback (most recent call last):", []))
        elif threads and line.strip():
            threads[-1][1].append(frame_in_words(line))
    # A worker's oldest thread runs the task; `faulthandler` begins with the newest.
    return "\n".join("\n".join([title, *reversed(frames)]) for title, frames in reversed(threads))


def frame_in_words(line: str) -> str:
    found = FRAME.fullmatch(line)
    if not found:
        return line
    file = found["file"].strip('"')
    code = linecache.getline(file, int(found["line"])).strip()
    return f'  File "{file}", line {found["line"]}, in {found["function"]}' + (f"\n    {code}" if code else "")
