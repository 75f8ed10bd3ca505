"""`python -m engine.alive light`: exit code 0 when a consumer of that queue, on this host, beat within the last lease.

The health check of a worker's container: two round trips to the broker, no database.
"""

import sys
import time

from config import settings
from engine.delivery import BrokerAway
from engine.messages import host
from engine.queues import Queue


def alive(queue: Queue) -> bool:
    return any(
        beat.info["host"] == host()
        and not beat.info.get("stopped_at")
        and time.time() - beat.at < settings.lease_seconds
        for beat in queue.storage.beats()
    )


if __name__ == "__main__":
    try:
        sys.exit(0 if alive(Queue(sys.argv[1])) else f"dewey: no live consumer of {sys.argv[1]} on {host()}")
    except BrokerAway as error:
        sys.exit(f"dewey: the broker is away: {error}")
