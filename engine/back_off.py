"""Back-off of a loop after a failed round: one log line per outage, and pauses that grow."""

import logging
import time

from engine.exceptions import BrokerUnavailable
from engine.outages import find_outage, lacks_table

logger = logging.getLogger(__name__)


class BackOff:
    def __init__(self, name: str, first_pause: float = 0.5, longest_pause: float = 10.0) -> None:
        self.name, self.first_pause, self.longest_pause = name, first_pause, longest_pause
        self.kind: type[Exception] | None = None  # of the last failure; None after a success
        self.pause, self.until = first_pause, 0.0

    def failed(self, error: Exception) -> float:
        """Return the seconds to pause. Log the first failure, and the first of each other type."""
        if type(error) is not self.kind:
            self.log(error)
        self.kind, pause = type(error), self.pause
        self.until = time.monotonic() + pause
        self.pause = min(pause * 2, self.longest_pause)
        return pause

    def log(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, BrokerUnavailable) or find_outage(error) or lacks_table(error):
            logger.warning("%s is waiting: %s", self.name, reason)
        else:
            logger.error("%s failed and will retry: %s", self.name, reason, exc_info=error)

    def succeeded(self) -> None:
        if self.kind:
            logger.info("%s works again", self.name)
            self.kind, self.pause, self.until = None, self.first_pause, 0.0

    @property
    def is_pausing(self) -> bool:
        return time.monotonic() < self.until
