"""The same empty task on two queues: ours, and stock Huey's RedisHuey. A consumer of one of them imports this."""

import os

from huey import RedisHuey

from engine.queues import Queue

ours = Queue("benchmark")
stock = RedisHuey("benchmark", url=os.environ["REDIS_URL"])


@ours.task()
def nothing() -> None:
    """An empty task: what is measured is all that is around it."""


@stock.task()
def nothing_either() -> None:
    """The same."""
