"""Stock Huey's queue of the storms, on the same brokers: `huey_consumer stock_huey.huey`."""

import os

import storm_tasks
from huey import Huey, RedisHuey, SqliteHuey, crontab


def build(broker: str) -> tuple[Huey, storm_tasks.StormTasks]:
    """Build the queue. `broker` is the URL of a Redis, or the path of a file."""
    huey = RedisHuey("stock", url=broker) if "://" in broker else SqliteHuey("stock", filename=broker)
    return huey, storm_tasks.register(huey, crontab())


if broker := os.environ.get("FAULTS_STOCK_BROKER"):
    huey, _ = build(broker)
