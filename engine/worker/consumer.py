"""Consumer: the parent of the processes that serve one queue.

It forks the workers and the scheduler, which records too, looks after them, and beats for them all; it has no threads
and no database connection. A worker that dies is replaced at once, and what it held goes back to the queue. Children
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
from secrets import token_hex
from typing import Any

from huey import CancelExecution
from huey import consumer as stock
from huey.constants import WORKER_PROCESS, WORKER_THREAD
from peewee import PeeweeException

from config import settings
from engine.back_off import BackOff
from engine.broker.deliveries import HeldMessage
from engine.database import release
from engine.exceptions import BrokerAway, HardTimeLimit
from engine.history import writer
from engine.log_format import adopt_huey_logging
from engine.models import now
from engine.queues import remote_control
from engine.queues.queue import BEAT_SECONDS, Queue
from engine.queues.remote_control import Order, Stack, What
from engine.queues.settler import SETTLE_SECONDS
from engine.version import code_version, host
from engine.worker.processes import TiedProcesses, descendants, kill_all, wait_for_end
from engine.worker.resource_usage import Usage
from engine.worker.scheduler import Scheduler
from engine.worker.soft_limit import is_passed
from engine.worker.stack_dump import SIGNAL as STACK_SIGNAL
from engine.worker.stack_dump import StackFile
from engine.worker.worker import Worker

logger = logging.getLogger("huey.consumer")

GRACE_SECONDS = 8.0
#: How often the parent looks for runs that are past their limit or are to be cancelled.
LOOK_SECONDS = 0.5
#: A cancelled task whose code does not let itself be interrupted loses its worker after this time.
PATIENCE_SECONDS = 1.0
#: A run that its worker does not execute at so many looks goes back to the queue. Until then the broker's answer, or a
#: second try after a lost one, may still be on its way to the worker.
MOST_LOOKS = 20


#: What is ordered, in the words of the log.
DEEDS = {
    What.DUMP: "tell where its workers are",
    What.QUIET: "take nothing new",
    What.WAKE: "take runs again",
    What.STOP: "stop",
    What.RESTART: "restart",
}


class Consumer(stock.Consumer):
    """What `huey_consumer tasks.light -k process -w 2` runs.

    SIGTERM and SIGINT let running tasks end within -t seconds (8 when absent) and hand the rest back; SIGHUP
    restarts; SIGQUIT writes to standard error where the program is.
    -g is accepted and changes nothing, as do the options for polling (-d -m -b) and health checks (-c -C).
    """

    worker_class = Worker
    scheduler_class = Scheduler
    scheduler: Any

    def __init__(self, huey: Queue, **options: Any) -> None:
        adopt_huey_logging()
        if options.get("worker_type", WORKER_THREAD) not in (WORKER_THREAD, WORKER_PROCESS):
            print("dewey: -k greenlet is not supported; use -k process", file=sys.stderr)
            raise SystemExit(2)
        options["max_tasks"] = options.get("max_tasks") or settings.worker_max_tasks or None
        if options.get("shutdown_timeout") is None:
            options["shutdown_timeout"] = GRACE_SECONDS
        options["check_worker_health"] = True
        self.id = f"{host()}:{os.getpid()}:{token_hex(3)}"
        self.started_at = now()
        self.next_beat = self.next_look = 0.0
        self.back_offs: dict[str, BackOff] = {}  # by duty
        self.interrupted_at: dict[str, float] = {}
        shared = multiprocessing.get_context("fork")
        slots = range(options.get("workers", 1))
        self.unattended: dict[HeldMessage, int] = {}  # runs that their workers do not execute, and at how many looks
        self.cancelling = [shared.Array("c", 400, lock=False) for _ in slots]
        self.executing = [shared.Value("q", 0, lock=False) for _ in slots]
        self.deadlines = [shared.Value("d", 0.0, lock=False) for _ in slots]
        self.tallies = [shared.Array("q", 2, lock=False) for _ in slots]
        self.stack_files = [StackFile() for _ in slots]
        self.dumping = False
        self.quiet_at = shared.Value("d", 0.0, lock=False)
        self.usage = Usage()
        self.scheduler_at = shared.Value("d", 0.0, lock=False)
        self.check_limits(huey, options.get("worker_type"))
        super().__init__(huey, **options)
        self._signal_actions = {
            signal.SIGINT: (False, True),
            signal.SIGTERM: (False, True),
            signal.SIGHUP: (True, True),
        }

    def check_limits(self, huey: Queue, worker_type: str | None) -> None:
        """A thread cannot be interrupted: refuse it a task that declares a limit; say that the global ones are off."""
        if worker_type == WORKER_PROCESS:
            return
        if declaring := [
            one.__name__ for one in huey._registry._registry.values() if one.default_timeout or one.time_limit
        ]:
            print(f"dewey: {declaring[0]} declares a time limit, which needs -k process", file=sys.stderr)
            raise SystemExit(2)
        if settings.soft_time_limit or settings.time_limit:
            logger.warning("Time limits are off: they need -k process")

    def get_environment(self, worker_type: str) -> Any:
        return TiedProcesses(self.workers) if worker_type == WORKER_PROCESS else super().get_environment(worker_type)

    def _create_process(self, process: Any, name: str) -> Any:
        process.name, process.consumer, process.forked = name, self.id, self.environment.forks
        process.seen_at = self.scheduler_at
        if isinstance(process, Worker):
            slot = process.slot = int(name.removeprefix("Worker-")) - 1
            process.cancelling, process.tally = self.cancelling[slot], self.tallies[slot]
            process.executing, process.deadline = self.executing[slot], self.deadlines[slot]
            process.stack_file, process.quiet_at = self.stack_files[slot], self.quiet_at
            process.executing.value = hash(process.cut_off[0].run_id) if process.cut_off else 0
            process.deadline.value = 0.0
        return super()._create_process(process, name)

    # --- running ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Beat before the first worker can take anything: what a consumer holds that never beat belongs to nobody."""
        self._set_signal_handlers()
        # Before the first fork: until it listens for itself, a worker answers as its parent does.
        faulthandler.register(STACK_SIGNAL)
        logger.info("Serving the queue %s", self.huey.name)
        # What is there now stays for good: children that never look through it go on sharing it.
        gc.collect()
        gc.freeze()
        self.beat()
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
            self.hand_over()
            raise
        self.do_duties()
        return health_check_ts

    def do_duties(self) -> None:
        """Do all that is due. One duty that fails is tried again soon, and keeps none of the others from being done."""
        duties: dict[str, Callable[[], None]] = {"The check of the workers": self.look_after_children}
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK_SECONDS
            duties |= {
                "The check of soft limits": self.look_after_soft_limits,
                "The check of running runs": self.look_after_runs,
                "The look for orders": self.look_for_orders,
            }
        if time.monotonic() >= self.next_beat:
            duties["The heartbeat"] = self.beat
        for name, duty in duties.items():
            back_off = self.back_offs.setdefault(name, BackOff(name, longest_pause=BEAT_SECONDS))
            if back_off.is_pausing:
                continue
            try:
                duty()
                back_off.succeeded()
            except Exception as error:
                back_off.failed(error)

    def look_after_children(self) -> None:
        for number, (_, process) in enumerate(self.worker_threads, 1):
            if not self.environment.is_alive(process) and self.returned(process, f"Worker-{number}"):
                self.replace_worker(number)
        if not self.environment.is_alive(self.scheduler):
            logger.warning("The scheduler died and is replaced")
            self.scheduler = self._create_process(self._create_scheduler(), "Scheduler")
            self.scheduler.start()

    def replace_worker(self, number: int, cut_off: tuple[HeldMessage, Exception] | None = None) -> None:
        worker = self._create_worker()
        worker.cut_off, worker.began_at = cut_off, time.monotonic()
        process = self._create_process(worker, f"Worker-{number}")
        self.worker_threads[number - 1] = (worker, process)
        process.start()

    def look_after_soft_limits(self) -> None:
        """Interrupt what is past its soft limit where the task has taken SIGALRM for itself."""
        for (_, process), deadline in zip(self.worker_threads, self.deadlines, strict=True):
            if is_passed(deadline, by=LOOK_SECONDS):
                self.environment.send(signal.SIGUSR2, process)

    def look_after_runs(self) -> None:
        """End what is past its hard limit or cancelled, and return what no worker executes. Threads cannot be ended."""
        if not self.environment.forks:
            return
        try:
            held = self.held()
            cancelled = self.huey.storage.deliveries.cancelled() if held else {}
            self.return_unattended([one for one in held if not self.is_executed(one)])
        except BrokerAway:
            return
        self.interrupted_at = {run_id: at for run_id, at in self.interrupted_at.items() if run_id in cancelled}
        for one in held:
            if self.is_executed(one):
                self.look_after_run(one, cancelled.get(one.run_id))

    def held(self) -> list[HeldMessage]:
        """The runs that stand at the broker beside a worker of this consumer."""
        return [held for held in self.huey.storage.deliveries.held() if held.consumer == self.id]

    def is_executed(self, held: HeldMessage) -> bool:
        """True if its worker executes or settles this very run."""
        return bool(self.executing[slot_of(held.worker)].value == hash(held.run_id))

    def return_unattended(self, held: list[HeldMessage]) -> None:
        """Give back the runs that their workers have not executed for a while, as deliveries without an outcome."""
        self.unattended = {one: self.unattended.get(one, 0) + 1 for one in held}
        for one in [one for one, looks in self.unattended.items() if looks > MOST_LOOKS]:
            reason = f"{one.worker} did not execute it"
            if self.huey.storage.deliveries.release(self.id, one.worker, reason, settings.max_deliveries, only=one):
                logger.warning("Run %s of %s returned to the queue: %s", one.run_id, one.task, reason)

    def look_after_run(self, held: HeldMessage, cancelled_by: str | None) -> None:
        slot, limit = slot_of(held.worker), self.huey.time_limit(held.task)
        worker, process = self.worker_threads[slot]
        if worker.cut_off and worker.cut_off[0] == held:  # this worker is only to settle it
            if time.monotonic() - worker.began_at > SETTLE_SECONDS:
                self.environment.kill(process)
        elif cancelled_by and held.run_id not in self.interrupted_at:
            self.interrupted_at[held.run_id] = time.monotonic()
            self.cancelling[slot].value = f"{held.run_id} {cancelled_by}".encode(errors="replace")[:399]
            self.environment.send(signal.SIGUSR2, process)
        elif cancelled_by and time.monotonic() - self.interrupted_at[held.run_id] > PATIENCE_SECONDS:
            self.cut_off(held, CancelExecution(f"cancelled by {cancelled_by}; the worker was killed", retry=False))
        elif limit and time.time() - held.held_at > limit:
            self.cut_off(held, HardTimeLimit(f"the time limit of {limit:g} s has passed; the worker was killed"))

    def cut_off(self, held: HeldMessage, why: Exception) -> None:
        """Kill the worker of a run. Its successor settles the run, as an attempt that ended so."""
        logger.error("Run %s of %s is cut off: %s", held.run_id, held.task, why)
        slot = slot_of(held.worker)
        self.environment.kill(self.worker_threads[slot][1])
        self.replace_worker(slot + 1, cut_off=(held, why))

    def returned(self, process: Any, name: str) -> bool:
        """Give back what a dead worker held. Only then may another bear its name."""
        code = getattr(process, "exitcode", 0)
        how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        try:
            count = self.huey.storage.deliveries.release(self.id, name, f"{name} died ({how})", settings.max_deliveries)
        except BrokerAway as error:
            logger.warning("%s died (%s); what it held waits for the broker: %s", name, how, error)
            return False
        if code or count:  # else it has ended by itself, after its task
            logger.warning("%s died (%s) and is replaced; %d run(s) returned to the queue", name, how, count)
        return True

    # --- orders ----------------------------------------------------------------------------------------------

    def look_for_orders(self) -> None:
        try:
            if self.dumping:
                self.dumping = False
                remote_control.answer(self.huey, self.id, self.stacks())
            for order in remote_control.take(self.huey, self.id):
                logger.warning("%s wants this consumer to %s", order.by, DEEDS[order.what])
                self.carry_out(order)
        except BrokerAway as error:
            logger.debug("No orders could be had: %s", error)

    def carry_out(self, order: Order) -> None:
        match order.what:
            case What.DUMP:
                self.ask_for_stacks()
            case What.QUIET:
                self.quiet_at.value = time.time()
            case What.WAKE:
                self.quiet_at.value = 0.0
            case What.STOP:
                self._handle_signal(signal.SIGTERM, None)
            case What.RESTART if self._signum is None:
                self._handle_signal(signal.SIGHUP, None)
        self.beat()

    def ask_for_stacks(self) -> None:
        """What the workers answer is read at the next look."""
        self.dumping = True
        if not self.environment.forks:
            self.stack_files[0].write()
            return
        for (_, process), file in zip(self.worker_threads, self.stack_files, strict=True):
            if process.is_alive():
                file.ask(process.pid)

    def stacks(self) -> list[Stack]:
        if not self.environment.forks:
            return [Stack("all threads", os.getpid(), None, None, self.stack_files[0].read())]
        # Of several runs beside one worker, the one that it executes.
        mine = {held.worker: held for held in sorted(self.held(), key=self.is_executed)}
        found = list[Stack]()
        for name, pid in self.slots.items():
            held, file = mine.get(name), self.stack_files[len(found)]
            found.append(Stack(name, pid, held and held.run_id, held and held.task, file.read()))
        return found

    # --- signs of life ---------------------------------------------------------------------------------------

    def beat(self) -> None:
        self.next_beat = time.monotonic() + BEAT_SECONDS
        self.report()

    def report(self, **more: Any) -> None:
        """Tell the broker that this consumer lives, and how it is."""
        info = {
            "host": host(),
            "pid": os.getpid(),
            "code_version": code_version(),
            "worker_type": self.worker_type,
            "worker_count": self.workers,
            "periodic": self.periodic,
            "started_at": self.started_at.timestamp(),
            "scheduler_at": self.scheduler_at.value or None,
            "processed": sum(processed for processed, _ in self.tallies),
            "failed": sum(failed for _, failed in self.tallies),
            "quiet_at": self.quiet_at.value or None,
            **self.usage.now(self.slots),
            **more,
        }
        heartbeat = self.back_offs.setdefault("heartbeat", BackOff("The heartbeat"))
        try:
            self.huey.storage.heartbeats.record(self.id, info)
            heartbeat.succeeded()
        except BrokerAway as error:
            heartbeat.failed(error)

    @property
    def slots(self) -> dict[str, int]:
        """The workers' processes by name; threads have none of their own."""
        if not self.environment.forks:
            return {}
        return {f"Worker-{number}": process.pid for number, (_, process) in enumerate(self.worker_threads, 1)}

    @property
    def processes(self) -> list[Any]:
        """The workers and the scheduler, or their threads."""
        return [*(process for _, process in self.worker_threads), self.scheduler]

    # --- stopping --------------------------------------------------------------------------------------------

    def stop(self, graceful: bool = False) -> None:
        self.stop_flag.set()  # whatever the broker takes to answer
        with suppress(Exception, KeyboardInterrupt):  # it is no more than a word to who waits
            if graceful and (running := len(self.held())):
                logger.info("Waiting up to %g s for %d running task(s)", self.shutdown_timeout, running)
        super().stop(graceful)

    def _join_workers(self) -> bool:
        return wait_for_end(self.processes, self.environment.is_alive, self.shutdown_timeout)

    def _interrupt_workers(self) -> None:
        """Interrupt what still runs. Kill what is left a second later, and what the workers have started."""
        if not self.environment.forks:
            return
        started = descendants(os.getpid())
        super()._interrupt_workers()
        kill_all([*started, *descendants(os.getpid())])
        wait_for_end(self.processes, self.environment.is_alive, 1)

    def hand_over(self) -> None:
        """Give back what is still held, say goodbye, and write down the rest of the history."""
        try:
            count = self.huey.storage.deliveries.release(
                self.id, None, "shutdown", settings.max_deliveries, counts=False
            )
            if count:
                logger.warning("%d running task(s) handed back to the queue", count)
            self.report(stopped_at=now().timestamp())
            writer.write_down(self.huey)
            writer.write_consumers(self.huey)
        except Exception as error:
            away = isinstance(error, PeeweeException | BrokerAway)
            logger.warning("The last events could not be written: %s", error, exc_info=not away)
        finally:
            release()


def slot_of(worker: str) -> int:
    """The place of a worker among those of its consumer, by its name."""
    return int(worker.removeprefix("Worker-")) - 1
