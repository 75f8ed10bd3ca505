"""The forked children of a consumer: process groups, signals, and shutdown with all their descendants.

Each child leads its own process group, so a terminal's Ctrl-C reaches only the parent. Killing a worker kills its group
and its descendants.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ctypes import c_double
from multiprocessing.context import ForkProcess
from types import FrameType

import psutil
from huey import consumer as stock

from engine.broker.inotify import LIBC
from engine.database import abandon_connections, database
from engine.queues import log_capture
from engine.queues.task import WorkerInterrupted
from engine.worker.soft_limit import SoftLimit
from engine.worker.stack_dump import SIGNAL as STACK_SIGNAL
from engine.worker.worker import Worker

PR_SET_PDEATHSIG = 1
#: How long an interrupted worker may take to end.
INTERRUPT_SECONDS = 1.0
#: How often the scheduler checks that its parent is alive.
GUARD_SECONDS = 0.1


class BoundProcesses(stock.ProcessEnvironment):
    deadline: c_double  # in a worker: its soft limit

    def __init__(self, workers: int) -> None:
        super().__init__(signal.SIGINT, signal.SIGUSR1)
        self.parent = os.getpid()
        #: The process group of each worker, or 0. Shared: the scheduler reads it.
        self.groups = self.mp.Array("l", workers, lock=False)

    def create_process(self, runnable: Callable[[], None], name: str) -> ForkProcess:
        process: ForkProcess = super().create_process(runnable, name)
        process.daemon = False  # multiprocessing does not allow daemonic processes to have children, and tasks use it
        return process

    # --- in a child ------------------------------------------------------------------------------------------

    def init_child(self, process: stock.BaseProcess) -> None:
        os.setpgid(0, 0)
        super().init_child(process)

        def interrupt_task(signum: int, frame: FrameType | None) -> None:
            if process.huey._tasks_in_flight:  # otherwise the stop flag ends it
                raise WorkerInterrupted

        signal.signal(self.interrupt, interrupt_task)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Programs that a task starts would inherit SIG_IGN, but not a handler.
            signal.signal(number, ignore_signal)
        if isinstance(process, Worker):
            self.init_worker(process)
        else:
            threading.Thread(target=self.watch_parent, name="Guard", daemon=True).start()
        if os.getppid() != self.parent:
            os._exit(1)
        database.obj.dispose()

    def init_worker(self, worker: Worker) -> None:
        self.groups[worker.slot.number - 1] = os.getpid()
        self.deadline = worker.slot.deadline
        signal.signal(signal.SIGUSR2, worker.interrupt)
        worker.slot.stack_dump.install_handler()
        os.register_at_fork(after_in_child=init_forked)
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch_parent(self) -> None:
        """Kill what the workers started once the parent has died. The kernel kills the workers themselves."""
        while os.getppid() == self.parent:
            time.sleep(GUARD_SECONDS)
        for group in self.groups:
            kill_group(group)
        os.kill(os.getpid(), signal.SIGKILL)

    def timeout(self, seconds: float) -> SoftLimit:
        return SoftLimit(seconds, self.deadline)

    # --- in the parent ---------------------------------------------------------------------------------------

    def is_alive(self, process: ForkProcess) -> bool:
        """False if it has ended. Processes that a worker left behind are then killed."""
        if super().is_alive(process):
            return True
        self.end_group(process)
        return False

    def end_group(self, process: ForkProcess) -> None:
        """Kill the group of a worker, once: its number may be reused by another program."""
        for slot, group in enumerate(self.groups):
            if group and group == process.pid:
                self.groups[slot] = 0
                kill_group(group)

    def interrupt_workers(self, processes: Iterable[ForkProcess]) -> None:
        processes = list(processes)
        for process in processes:
            self.send(self.interrupt, process)
        wait_for_end(processes, self.is_alive, INTERRUPT_SECONDS)

    def send(self, number: int, process: ForkProcess) -> None:
        """Send a signal to a running child. The id of an ended one may be reused by another program."""
        if process.pid and self.is_alive(process):
            os.kill(process.pid, number)

    def kill(self, process: ForkProcess) -> None:
        if not (process.pid and self.is_alive(process)):
            return
        os.kill(process.pid, signal.SIGSTOP)  # so that it starts nothing more
        started = descendants(process.pid)
        process.kill()
        self.end_group(process)  # includes those whose own parent has ended
        kill_all(started)  # includes those that left the group
        process.join()


def ignore_signal(signum: int, frame: FrameType | None) -> None:
    pass


def init_forked() -> None:
    """Give a process that a task has forked default signals and new connections."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.unregister(STACK_SIGNAL)
    log_capture.stop()
    abandon_connections()


def wait_for_end(processes: Iterable[ForkProcess], is_alive: Callable[[ForkProcess], bool], seconds: float) -> bool:
    processes, give_up_at = list(processes), time.monotonic() + seconds
    while processes := [process for process in processes if is_alive(process)]:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error, OSError):
            group = os.getpgid(process.pid)
            process.kill()
            if group != os.getpgrp():
                kill_group(group)


def kill_group(group: int) -> None:
    with suppress(OSError):
        if group:
            os.killpg(group, signal.SIGKILL)
