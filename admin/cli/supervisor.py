"""The supervisor of `dewey start`: `python -m admin.cli.supervisor -c FILE`, a supervisord with some changes.

Its programs write to the terminal directly. Signals and exits are handled within a tenth of a second. A closed terminal
(SIGHUP) ends everything, as Ctrl-C does.

If SIGKILL ends this process, the kernel sends SIGTERM to its programs. Without `prctl` (macOS) they keep running and
hold the port. The next start then reports that the port is in use.
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

#: A consumer gives running tasks 8 s and one more to end, then returns them to the queue. After this time it is killed
#: with its workers, because everything must end within 10 s.
KILL_AFTER_SECONDS = 9.4

#: Pause after an error of the supervisor.
PAUSE_SECONDS = 1.0

PR_SET_PDEATHSIG = 1


class Poller(PollPoller):
    """Poll for a tenth of a second at most: supervisord handles signals, exits and deadlines only between two polls."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        return super().poll(min(timeout, 0.1))


class Logger(loggers.Logger):
    """Pass supervisord's lines to Python's logging. The level numbers are the same."""

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
        """Give the program copies of this process's streams, so there are no pipes to read."""
        ours = {"child_stdin": os.open(os.devnull, os.O_RDONLY), "child_stdout": os.dup(1), "child_stderr": os.dup(2)}
        return {"stdin": None, "stdout": None, "stderr": None, **ours}

    def setpgrp(self) -> None:
        """Have the kernel send SIGTERM when the supervisor ends. Called in the child before exec."""
        super().setpgrp()
        if prctl := getattr(ctypes.CDLL(None), "prctl", None):
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.pid:
            os._exit(0)


class Supervisor(Supervisord):
    """Continue after an error. Otherwise all programs would end with this process."""

    def runforever(self) -> None:
        kind = None
        while True:
            try:
                super().runforever()
                return
            except ExitNow:  # all programs have stopped
                raise
            except Exception as error:
                if type(error) is not kind:  # a repeated error would fill the log
                    logging.exception("Supervisor error, continuing")
                kind = type(error)
                time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    multiprocessing.current_process().name = "supervisor"
    options = Options()
    options.realize()
    options.first, options.test = True, False
    for group in options.process_group_configs:
        for program in group.process_configs:
            program.stopwaitsecs = KILL_AFTER_SECONDS  # the configuration file accepts whole seconds only
    with suppress(ExitNow):
        Supervisor(options).main()
