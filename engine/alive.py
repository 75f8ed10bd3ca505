"""`python -m engine.alive light`: exit code 0 when a consumer of that queue, on this host, beat within the last lease;
`python -m engine.alive watch`: when one that watches did within the last minute.

The health check of a container. That of a worker is two round trips to the broker, without the database.
"""

import sys
import time

from peewee import PeeweeException

from config import settings
from engine import alerts
from engine.delivery import BrokerAway
from engine.messages import host
from engine.queues import Queue
from engine.records import now


def alive(queue: Queue) -> bool:
    return any(
        beat.info.get("host") == host()
        and not beat.info.get("stopped_at")
        and time.time() - beat.at < settings.lease_seconds
        for beat in queue.storage.beats()
    )


def watched() -> bool:
    return any(one.host == host() for one in alerts.watching(now()))


if __name__ == "__main__":
    what = sys.argv[1]
    try:
        if what == "watch":
            sys.exit(0 if watched() else f"dewey: nobody watches on {host()}")
        sys.exit(0 if alive(Queue(what)) else f"dewey: no live consumer of {what} on {host()}")
    except BrokerAway as error:
        sys.exit(f"dewey: the broker is away: {error}")
    except PeeweeException as error:
        sys.exit(f"dewey: the database is away: {str(error).partition(chr(10))[0]}")
