"""Consumer: the parent of the processes that serve one queue.

It forks the workers and the scheduler, which also runs the recorder. It monitors them and sends their heartbeat. It has
no threads and no database connection. A dead worker is replaced at once, and its runs return to the queue. Children
die with their parent.
"""

import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_double
from multiprocessing.context import ForkProcess
from secrets import token_hex

from huey import consumer as stock
from huey.constants import WORKER_PROCESS, WORKER_THREAD
from peewee import PeeweeException

from config import settings
from engine.back_off import BackOff
from engine.database import release_connection
from engine.exceptions import BrokerUnavailable
from engine.history import writer
from engine.log_format import adopt_huey_logging
from engine.models import now
from engine.private_files import restrict_folders
from engine.queues.queue import BEAT_SECONDS, Queue
from engine.version import code_version, host_name
from engine.worker.commands import CommandExecutor
from engine.worker.heartbeat import HeartbeatSender
from engine.worker.limits import CHECK_SECONDS, LimitEnforcer, held_runs
from engine.worker.processes import BoundProcesses, descendants, kill_all, wait_for_end
from engine.worker.scheduler import Scheduler
from engine.worker.stack_dump import SIGNAL as STACK_SIGNAL
from engine.worker.worker import Worker
from engine.worker.worker_slot import KilledRun, WorkerSlot, slot_index

logger = logging.getLogger("huey.consumer")

GRACE_SECONDS = 8.0


class Consumer(stock.Consumer):
    """The process of `huey_consumer tasks.light -k process -w 2`.

    On SIGTERM and SIGINT running tasks may end within -t seconds (default 8). The rest returns to the queue. SIGHUP
    restarts. SIGQUIT prints the stack to standard error.
    -g and the options for polling (-d -m -b) and health checks (-c -C) are accepted and ignored.
    """

    worker_class = Worker
    scheduler_class = Scheduler
    huey: Queue
    scheduler: ForkProcess
    worker_threads: list[tuple[Worker, ForkProcess]]

    def __init__(
        self,
        huey: Queue,
        workers: int = 1,
        worker_type: str = WORKER_THREAD,
        max_tasks: int | None = None,
        shutdown_timeout: float | None = None,
        **options: object,
    ) -> None:
        adopt_huey_logging()
        if worker_type not in (WORKER_THREAD, WORKER_PROCESS):
            print("dewey: -k greenlet is not supported; use -k process", file=sys.stderr)
            raise SystemExit(2)
        check_limits(huey, worker_type)
        restrict_folders(settings.data_dir)

        self.id = f"{host_name()}:{os.getpid()}:{token_hex(3)}"
        self.next_check = 0.0
        self.back_offs: dict[str, BackOff] = {}  # by duty
        shared = multiprocessing.get_context("fork")
        self.slots = [WorkerSlot(number) for number in range(1, workers + 1)]
        self.quiet_at: c_double = shared.Value("d", 0.0, lock=False)
        self.scheduler_at: c_double = shared.Value("d", 0.0, lock=False)
        options |= {
            "worker_type": worker_type,
            "max_tasks": max_tasks or settings.worker_max_tasks or None,
            "shutdown_timeout": GRACE_SECONDS if shutdown_timeout is None else shutdown_timeout,
            "check_worker_health": True,
        }
        super().__init__(huey, workers, **options)
        self._signal_actions = {
            signal.SIGINT: (False, True),
            signal.SIGTERM: (False, True),
            signal.SIGHUP: (True, True),
        }
        self.create_parts()

    def create_parts(self) -> None:
        facts = {
            "host": host_name(),
            "pid": os.getpid(),
            "code_version": code_version(),
            "worker_type": self.worker_type,
            "worker_count": self.workers,
            "periodic": self.periodic,
            "started_at": now().timestamp(),
        }
        queue, forks = self.huey, self.environment.forks
        self.heartbeat = HeartbeatSender(queue, self.id, facts, self.slots, self.scheduler_at, self.quiet_at)
        self.limits = (
            LimitEnforcer(queue, self.id, self.environment, self.slots, self.replace_worker) if forks else None
        )
        self.commands = CommandExecutor(
            queue, self.id, self.slots, self.heartbeat, self.quiet_at,
            forks=forks, stop=self.begin_stop, restart=self.begin_restart,
        )  # fmt: skip

    def get_environment(self, worker_type: str) -> stock.Environment:
        return BoundProcesses(self.workers) if worker_type == WORKER_PROCESS else super().get_environment(worker_type)

    def _create_process(self, process: Worker | Scheduler, name: str) -> ForkProcess:
        process.name = name
        if not isinstance(process, Worker):
            process.seen_at = self.scheduler_at
            child: ForkProcess = super()._create_process(process, name)
            return child
        slot = process.slot = self.slots[slot_index(name)]
        process.consumer, process.forked, process.quiet_at = self.id, self.environment.forks, self.quiet_at
        slot.reset()
        slot.process = super()._create_process(process, name)
        return slot.process

    # --- running ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Send a heartbeat before the first worker can claim. Messages held by a consumer without one are reaped."""
        self._set_signal_handlers()
        # Before the first fork: until a worker installs its own handler, it uses its parent's.
        faulthandler.register(STACK_SIGNAL)
        logger.info("Serving the queue %s", self.huey.name)
        # Freeze the current objects, so that children share their memory.
        gc.collect()
        gc.freeze()
        self.heartbeat.beat()
        super().start()

    def run(self) -> None:
        try:
            super().run()
        except BaseException:
            self.stop()
            raise

    def loop(self, health_check_ts: float | None = None) -> float | None:
        try:
            super().loop(None)
        except stock.ConsumerStopped:
            self.shutdown_cleanup()
            raise
        self.do_duties()
        return health_check_ts

    def do_duties(self) -> None:
        """Run all due duties. A failed duty is retried soon and does not block the others."""
        for name, duty in self.due_duties().items():
            back_off = self.back_offs.setdefault(name, BackOff(name, longest_pause=BEAT_SECONDS))
            if back_off.is_pausing:
                continue
            try:
                duty()
                back_off.succeeded()
            except Exception as error:
                back_off.failed(error)

    def due_duties(self) -> dict[str, Callable[[], None]]:
        duties: dict[str, Callable[[], None]] = {"The check of the workers": self.check_children}
        if time.monotonic() >= self.next_check:
            self.next_check = time.monotonic() + CHECK_SECONDS
            if self.limits:
                duties["The check of soft limits"] = self.limits.enforce_soft_limits
                duties["The check of running runs"] = self.limits.enforce_limits
            duties["The poll for commands"] = self.commands.poll_commands
        if self.heartbeat.is_due:
            duties["The heartbeat"] = self.heartbeat.beat
        return duties

    # --- children --------------------------------------------------------------------------------------------

    def check_children(self) -> None:
        for slot in self.slots:
            if not self.environment.is_alive(slot.process) and self.release_held(slot):
                self.replace_worker(slot)
        if not self.environment.is_alive(self.scheduler):
            logger.warning("The scheduler died and is replaced")
            self.scheduler = self._create_process(self._create_scheduler(), "Scheduler")
            self.scheduler.start()

    def replace_worker(self, slot: WorkerSlot, killed_run: KilledRun | None = None) -> None:
        slot.killed_run = killed_run
        worker = self._create_worker()
        process = self._create_process(worker, slot.name)
        self.worker_threads[slot.number - 1] = (worker, process)
        process.start()

    def release_held(self, slot: WorkerSlot) -> bool:
        """Release the runs of a dead worker. Only then may another worker use its name."""
        code = getattr(slot.process, "exitcode", 0)
        how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        reason = f"{slot.name} died ({how})"
        try:
            count = self.huey.storage.deliveries.release(self.id, slot.name, reason, settings.max_deliveries)
        except BrokerUnavailable as error:
            logger.warning("%s. Its runs return to the queue when the broker is available: %s", reason, error)
            return False
        if code or count:  # else it ended on its own, after its task
            logger.warning("%s and is replaced; %d run(s) returned to the queue", reason, count)
        return True

    # --- stopping --------------------------------------------------------------------------------------------

    def begin_stop(self) -> None:
        self._handle_signal(signal.SIGTERM, None)

    def begin_restart(self) -> None:
        if self._signum is None:
            self._handle_signal(signal.SIGHUP, None)

    def stop(self, graceful: bool = False) -> None:
        self.stop_flag.set()  # before any broker call, which may block
        with suppress(Exception, KeyboardInterrupt):  # the line below is only for the log
            if graceful and (running := len(held_runs(self.huey, self.id))):
                logger.info("Waiting up to %g s for %d running task(s)", self.shutdown_timeout, running)
        super().stop(graceful)

    @property
    def children(self) -> list[ForkProcess]:
        return [*(process for _, process in self.worker_threads), self.scheduler]

    def _join_workers(self) -> bool:
        return wait_for_end(self.children, self.environment.is_alive, self.shutdown_timeout)

    def _interrupt_workers(self) -> None:
        """Interrupt running tasks. A second later, kill what is left and what the workers have started."""
        if not self.environment.forks:
            return
        started = descendants(os.getpid())
        super()._interrupt_workers()
        kill_all([*started, *descendants(os.getpid())])
        wait_for_end(self.children, self.environment.is_alive, 1)

    def shutdown_cleanup(self) -> None:
        try:
            count = self.huey.storage.deliveries.release(
                self.id, None, "shutdown", settings.max_deliveries, counts=False
            )
            if count:
                logger.warning("%d running task(s) returned to the queue", count)
            self.heartbeat.send(stopped_at=now().timestamp())
            writer.flush_events(self.huey)
            writer.sync_consumers(self.huey)
        except Exception as error:
            away = isinstance(error, PeeweeException | BrokerUnavailable)
            logger.warning("The last events could not be written: %s", error, exc_info=not away)
        finally:
            release_connection()


def check_limits(queue: Queue, worker_type: str) -> None:
    """Reject a time limit if workers are threads, which cannot be interrupted. Warn that global ones are off."""
    if worker_type == WORKER_PROCESS:
        return
    task_classes = queue._registry._registry.values()
    if names := [task.__name__ for task in task_classes if task.default_timeout or task.time_limit]:
        print(f"dewey: {names[0]} declares a time limit, which needs -k process", file=sys.stderr)
        raise SystemExit(2)
    if settings.soft_time_limit or settings.time_limit:
        logger.warning("Time limits are off: they need -k process")
