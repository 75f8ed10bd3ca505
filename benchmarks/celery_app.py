"""The same tasks on Celery, configured for durability and full monitoring. Does not use Dewey.

No result backend: results would cost it another round trip. Dewey stores them all the same.
"""

import os
import time

from celery import Celery

queue = Celery("celery_app", broker=os.environ["REDIS_URL"].replace("unix://", "redis+socket://"))
queue.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
)


@queue.task
def nothing() -> None:
    """An empty task."""


@queue.task
def stamp(path: str, asked_at: int) -> None:
    took = time.time_ns() - asked_at
    with open(path, "a", buffering=1) as file:
        file.write(f"{took}\n")
