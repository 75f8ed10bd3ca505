"""Watches a file with inotify, so that waiting workers need not poll it."""

import ctypes
import os
import select
from contextlib import suppress

#: Loaded before a process forks: a copy per process would take memory in each.
LIBC = ctypes.CDLL(None, use_errno=True)
IN_MODIFY = 2


class InotifyWatch:
    """A watch on writes to a file. Raises OSError if the kernel has no inotify."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self.file = -1
        try:
            self.file = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self.file < 0 or LIBC.inotify_add_watch(self.file, os.fsencode(path), IN_MODIFY) < 0:
                raise OSError(ctypes.get_errno(), "no watch on this file", str(path))
        except AttributeError as error:  # a kernel other than Linux
            raise OSError(str(error)) from error
        self.poll = select.poll()
        self.poll.register(self.file, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Return True if the file was written since the last call, or is within this time."""
        if not self.poll.poll(seconds * 1000):
            return False
        with suppress(BlockingIOError):
            while os.read(self.file, 65536):
                pass
        return True

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)
