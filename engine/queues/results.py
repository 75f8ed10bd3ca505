"""ResultBuilder: builds a result while a failure still counts as the attempt's."""

import copy
import logging

from huey.utils import Error

from engine.broker.messages import FinalResult
from engine.exceptions import MessageTooLarge, NotSerializable, NotStorable
from engine.queues.enqueue import Enqueuer
from engine.queues.execution import Execution
from engine.queues.interfaces import TaskQueue
from engine.queues.task import QueueTask

logger = logging.getLogger(__name__)


class ResultBuilder:
    def __init__(self, queue: TaskQueue, enqueuer: Enqueuer) -> None:
        self.queue, self.enqueuer, self.state = queue, enqueuer, queue.state

    def check(self, task: QueueTask, value: object) -> None:
        """Build the result of a task's code and keep it for `serialize`. Raises NotStorable."""
        current = self.state.current
        if current is None or current.task is not task:
            return
        try:
            data = self.queue.sign_value(task.id, FinalResult(value, current.attempt, task.id))
        except (NotStorable, MessageTooLarge) as error:
            raise NotStorable(f"the result of {task.name} cannot be stored: {error}") from error
        current.checked = value, data
        if task.on_complete:
            self.check_follower(task.on_complete, value)

    def check_follower(self, follower: QueueTask, value: object) -> None:
        """Build the message of the next task in a pipeline, as Huey will. Raises NotStorable."""
        follower = copy.copy(follower)
        follower.kwargs = dict(follower.kwargs)
        follower.extend_data(value)
        try:
            self.enqueuer.message(follower)
        except (NotSerializable, MessageTooLarge, ValueError) as error:
            raise NotStorable(f"the result cannot be handed on to {follower.name}: {error}") from error

    def serialize(self, settling: Execution, key: str, value: object) -> bytes:
        """Return the bytes to store under `key` when this execution is settled."""
        sign = self.queue.sign_value
        if key != settling.task.id:
            return sign(key, value)
        if settling.checked and value is settling.checked[0]:
            return settling.checked[1]
        if isinstance(value, Error) and hasattr(settling.task, "failed_result"):
            try:
                replacement = settling.task.failed_result(settling.exception)
                data = sign(key, FinalResult(replacement, settling.attempt, key))
                settling.value = replacement
                return data
            except BaseException:
                logger.exception(
                    "failed_result of %s raised or cannot be stored. The error is stored instead", settling.task.name
                )
        return sign(key, FinalResult(value, settling.attempt, key))
