"""Claimer: claims the next message for a worker and settles its previous run in the same step."""

import functools
import logging

import orjson

from config import settings
from engine.broker.deliveries import Delivery, FinishedRun, MissingTask, TurnResult
from engine.broker.effects import Effects
from engine.exceptions import BrokerUnavailable, CancelRequested
from engine.queues.interfaces import TaskQueue
from engine.queues.registry import NotRegistered
from engine.queues.settler import Settler
from engine.queues.task import QueueTask, parse_rate
from engine.text import storable
from engine.version import code_version, host_name

logger = logging.getLogger(__name__)


class Claimer:
    def __init__(self, queue: TaskQueue, settler: Settler) -> None:
        self.queue, self.settler, self.state = queue, settler, queue.state

    def claim(self) -> Delivery | None:
        state, tries = self.state, 0
        if state.given_up:
            self.settler.release_given_up()
        last = state.last

        def step() -> TurnResult:
            nonlocal tries
            tries += 1
            # The answer to an earlier try, with a message in it, may have been lost: look for that message first.
            look_first, state.unsure = state.unsure, True
            self.queue.storage.deliveries.known_tasks = self.queue._registry._registry
            turn: TurnResult = self.queue.storage.deliveries.settle_and_claim(
                state.consumer, state.worker, look_first, self.rate_limits_json, last.finished if last else None
            )
            return turn

        try:
            turn = self.settler.retry_while_unavailable(step, patient=last is not None)
        except CancelRequested as request:
            if last is None:
                raise
            self.settler.settle_as_cancelled(last, str(request))
            return self.claim()
        except BrokerUnavailable:
            raise
        except Exception as error:
            if last is None:
                raise
            logger.error("No run could be claimed in the step that acknowledges the last one", exc_info=error)
            self.settler.settle_previous()
            return None
        state.unsure, state.last = False, None
        if last and turn.settled:
            self.settler.remember(last)
        if last:
            self.settler.report_outcome(last, turn.settled or tries > 1)
        return turn.claimed

    @functools.cached_property
    def rate_limits_json(self) -> str:
        """JSON of task → [starts, seconds], for the broker. Empty if no task has a rate limit."""
        task_classes = self.queue._registry._registry.values()
        rates = {task.__name__: parse_rate(task.rate_limit) for task in task_classes if task.rate_limit}
        return orjson.dumps(rates).decode() if rates else ""

    def decode_task(self, taken: Delivery) -> QueueTask | None:
        """Return the task of a message. None if this code cannot run it: it is then deferred or dead."""
        try:
            task: QueueTask = self.queue.deserialize_task(taken.data)
        except NotRegistered as error:
            self.put_off(taken, error.task)
            return None
        except Exception as error:
            logger.error("Message %s cannot be executed and moves to the dead runs: %s", taken.run_id, error)
            self.queue.storage.deliveries.dead_letter(self.state.consumer, taken, storable(str(error)))
            return None
        if self.is_put_back(taken, task):
            return None
        task.taken = taken
        return task

    def is_put_back(self, taken: Delivery, task: QueueTask) -> bool:
        """Return true if a settled message was put back into the broker. It is then removed and reported."""
        if task.id != taken.run_id:
            reason = f"this is the message of run {task.id}"
            logger.error("Message %s cannot be executed and moves to the dead runs: %s", taken.run_id, reason)
            self.queue.storage.deliveries.dead_letter(self.state.consumer, taken, reason)
        elif task.envelope and self.settler.replays.is_replay(taken, task.envelope):
            reason = f"attempt {task.envelope.attempt} of this run has been settled"
            self.queue.storage.deliveries.settle(self.state.consumer, FinishedRun(taken, Effects(), is_cancel=True))
        else:
            return False
        self.queue.report_forged("message", taken.run_id, reason)
        return True

    def put_off(self, taken: Delivery, task: str) -> None:
        consumer = self.state.consumer
        reason = MissingTask(task, f"{self.queue.name}@{host_name()}", consumer, code_version())
        match self.queue.storage.deliveries.defer(consumer, taken, reason, settings.unknown_task_grace):
            case "dead":
                logger.error(
                    "Message %s cannot be executed and moves to the dead runs: %s (%s)",
                    taken.run_id,
                    reason.reason,
                    task,
                )
            case "scheduled":
                logger.warning("Run %s waits for newer code: %s (%s)", taken.run_id, reason.reason, task)
