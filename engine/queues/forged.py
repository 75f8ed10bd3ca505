"""ForgedReporter: reports values in the broker that are malformed or that no program of ours has signed."""

import logging
import time
from contextlib import suppress

from engine.broker.effects import Effects, event_json
from engine.exceptions import BrokerUnavailable
from engine.queues.interfaces import TaskQueue

logger = logging.getLogger(__name__)

#: A process reports at most this many values.
MAX_REPORTED = 1000


class ForgedReporter:
    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        self.reported: set[tuple[str, str, str]] = set()

    def report(self, what: str, name: str, reason: str) -> None:
        """Log a value and set it aside in the history, once per process. An unavailable broker is ignored."""
        report = what, name, reason
        if report in self.reported or len(self.reported) >= MAX_REPORTED:
            return
        self.reported.add(report)
        queue = self.queue
        logger.error("The %s of %s in queue %s is malformed or forged and left out: %s", what, name, queue.name, reason)
        if not queue.immediate:
            with suppress(BrokerUnavailable):
                event = event_json("forged", name, time.time(), what=what, reason=reason)
                queue.storage.messages.write(Effects().event(event))
