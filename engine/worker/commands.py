"""CommandExecutor: executes operators' commands on a consumer: quiet, wake, stop, restart, dump."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from ctypes import c_double

from engine.broker.deliveries import HeldMessage
from engine.exceptions import BrokerUnavailable
from engine.queues import remote_control
from engine.queues.queue import Queue
from engine.queues.remote_control import Command, CommandInbox, CommandRequest, Stack
from engine.worker.heartbeat import HeartbeatSender
from engine.worker.limits import held_runs
from engine.worker.worker_slot import WorkerSlot

logger = logging.getLogger("huey.consumer")

#: The commands as log text.
COMMAND_TEXT = {
    Command.DUMP: "dump its workers' stacks",
    Command.QUIET: "take no new tasks",
    Command.WAKE: "take tasks again",
    Command.STOP: "stop",
    Command.RESTART: "restart",
}


class CommandExecutor:
    """The part of a consumer that polls the broker for commands. `stop` and `restart` begin the shutdown."""

    def __init__(
        self,
        queue: Queue,
        consumer: str,
        slots: Sequence[WorkerSlot],
        heartbeat: HeartbeatSender,
        quiet_at: c_double,
        *,
        forks: bool,
        stop: Callable[[], None],
        restart: Callable[[], None],
    ) -> None:
        self.queue, self.consumer, self.slots, self.heartbeat = queue, consumer, slots, heartbeat
        self.quiet_at, self.forks, self.stop, self.restart = quiet_at, forks, stop, restart
        self.is_dumping = False
        self.inbox = CommandInbox(queue, consumer)

    def poll_commands(self) -> None:
        """Take and execute pending commands. The stacks of a dump are published at the next poll."""
        try:
            if self.is_dumping:
                self.is_dumping = False
                remote_control.publish_dump(self.queue, self.consumer, self.read_stacks())
            for order in self.inbox.take():
                logger.warning("Command from %s: %s", order.by, COMMAND_TEXT[order.what])
                self.execute_command(order)
        except BrokerUnavailable as error:
            logger.debug("No commands could be read: %s", error)

    def execute_command(self, order: CommandRequest) -> None:
        match order.what:
            case Command.DUMP:
                self.request_stacks()
            case Command.QUIET:
                self.quiet_at.value = time.time()
            case Command.WAKE:
                self.quiet_at.value = 0.0
            case Command.STOP:
                self.stop()
            case Command.RESTART:
                self.restart()
        self.heartbeat.beat()

    def request_stacks(self) -> None:
        self.is_dumping = True
        if not self.forks:
            self.slots[0].stack_dump.write()
            return
        for slot in self.slots:
            if slot.pid and slot.process.is_alive():
                slot.stack_dump.request(slot.pid)

    def read_stacks(self) -> list[Stack]:
        if not self.forks:
            return [Stack("all threads", os.getpid(), None, None, self.slots[0].stack_dump.read())]
        held = held_runs(self.queue, self.consumer)
        return [self.read_stack(slot, [run for run in held if run.worker == slot.name]) for slot in self.slots]

    def read_stack(self, slot: WorkerSlot, held: list[HeldMessage]) -> Stack:
        """Return the stack of a worker. Of several runs that it holds, the executed one is named."""
        run = max(held, key=lambda run: slot.is_executing(run.run_id), default=None)
        return Stack(slot.name, slot.pid or 0, run and run.run_id, run and run.task, slot.stack_dump.read())
