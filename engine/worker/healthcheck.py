"""Health check: is a consumer of a queue, or the alert watcher, alive on this host?"""

import time

from peewee import PeeweeException

from config import settings
from engine.exceptions import BrokerUnavailable
from engine.models import now
from engine.monitor import alerts
from engine.queues.queue import Queue
from engine.version import host_name


def consumer_is_alive(queue: Queue) -> bool:
    return any(
        heartbeat.info.get("host") == host_name()
        and not heartbeat.info.get("stopped_at")
        and time.time() - heartbeat.at < settings.lease_seconds
        for heartbeat in queue.storage.heartbeats.all()
    )


def watcher_is_alive() -> bool:
    return any(watcher.host == host_name() for watcher in alerts.is_watched(now()))


def check(what: str) -> str | None:
    """Return in one line why it is not alive, None if it is. `what`: the name of a queue, or `watch`."""
    try:
        if what == "watch":
            return None if watcher_is_alive() else f"dewey: no alert watcher on {host_name()}"
        return None if consumer_is_alive(Queue(what)) else f"dewey: no live consumer of {what} on {host_name()}"
    except BrokerUnavailable as error:
        return f"dewey: the broker is unavailable: {error}"
    except PeeweeException as error:
        return f"dewey: the database is unavailable: {str(error).partition(chr(10))[0]}"
