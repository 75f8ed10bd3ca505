"""The supervisor of `flask start`: `python -m admin.cli.supervisor -c FILE` is supervisord with habits of its own.

Its programs write to the terminal themselves; nothing pumps or prefixes their lines. Signals and deaths are seen within
a tenth of a second. A closed terminal (SIGHUP) ends everything as Ctrl-C does, and nothing is started anew.

When this process itself is killed by SIGKILL, the kernel sends SIGTERM to its programs and they end as on Ctrl-C. Where
there is no `prctl` (macOS) they stay, and hold the port: the next start says that it is in use.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from typing import Any

from supervisor import loggers
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.poller import PollPoller
from supervisor.supervisord import Supervisor as Supervisord

from engine.log_format import formatter

#: A consumer gives running tasks 8 s, then one more to those that do not let go, and hands them back. After this time
#: it hangs and is killed with its workers: everything must be over within 10 s.
KILL_AFTER_SECONDS = 9.4

#: After an error of its own the supervisor goes on so much later.
PAUSE_SECONDS = 1.0

PR_SET_PDEATHSIG = 1


class Poller(PollPoller):
    """supervisord heeds signals, deaths and deadlines only between two polls, and sleeps a second in each."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        return super().poll(min(timeout, 0.1))


class Logger(loggers.Logger):
    """Hands supervisord's lines to Python's logging; the numbers of the levels are the same."""

    def log(self, level: int, message: str, **values: Any) -> None:
        logging.log(level, "%s", message % values if values else message)


class Options(ServerOptions):
    def __init__(self) -> None:
        super().__init__()
        self.poller = Poller(self)
        self.pid = os.getpid()

    def make_logger(self) -> None:
        handler = logging.StreamHandler()
        handler.setFormatter(formatter())
        logging.basicConfig(handlers=[handler], level=self.loglevel)
        self.logger = Logger(self.loglevel)

    def make_pipes(self, stderr: bool = True) -> dict[str, int | None]:
        """The ends that a program gets are copies of ours, so there is nothing for this process to read or write."""
        ours = {"child_stdin": os.open(os.devnull, os.O_RDONLY), "child_stdout": os.dup(1), "child_stderr": os.dup(2)}
        return {"stdin": None, "stdout": None, "stderr": None, **ours}

    def setpgrp(self) -> None:
        """Called in the forked process, before it becomes the program."""
        super().setpgrp()
        if prctl := getattr(ctypes.CDLL(None), "prctl", None):
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.pid:
            os._exit(0)


class Supervisor(Supervisord):
    """Goes on after an error: with this process all its programs would end."""

    def runforever(self) -> None:
        kind = None
        while True:
            try:
                super().runforever()
                return
            except ExitNow:  # all programs have stopped
                raise
            except Exception as error:
                if type(error) is not kind:  # else it would fill the log
                    logging.exception("The supervisor failed and goes on")
                kind = type(error)
                time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    multiprocessing.current_process().name = "supervisor"
    options = Options()
    options.realize()
    options.first, options.test = True, False
    for group in options.process_group_configs:
        for program in group.process_configs:
            program.stopwaitsecs = KILL_AFTER_SECONDS  # the file takes whole seconds only
    with suppress(ExitNow):
        Supervisor(options).main()
