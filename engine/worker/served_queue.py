"""ServedQueue: a Queue that `huey_consumer` can serve."""

from typing import Any

from huey import consumer as stock

from engine.queues.queue import Queue


class ServedQueue(Queue):
    """A queue with its consumer. Rooms below the workers only use Queue."""

    def create_consumer(self, **options: Any) -> stock.Consumer:
        from engine.worker.consumer import Consumer  # so that the web process need not import it

        return Consumer(self, **options)
