"""ServedQueue: a Queue that `huey_consumer` can serve."""

from typing import Any

from huey import consumer as stock

from engine.queues.queue import Queue


class ServedQueue(Queue):
    """A queue with its consumer. A room below the workers knows only Queue."""

    def create_consumer(self, **options: Any) -> stock.Consumer:
        from engine.worker.consumer import Consumer  # here, so that the web process does without it

        return Consumer(self, **options)
