"""Run Huey's test suite, which its package contains, against Dewey's queue and consumer.

`python huey_suite.py sqlite|redis PLACE` prints one line of JSON: the number of tests and the failures. Options with
other defaults in Huey are set as its tests expect.
"""

import json
import sys
import tempfile
import unittest
from itertools import count
from pathlib import Path
from typing import Any

import conftest  # Imported first: it hides the developer's settings.
from huey.tests import base

from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import bind
from engine.migrations import migrate
from engine.queues.queue import Queue
from engine.worker.consumer import Consumer
from engine.worker.served_queue import ServedQueue

PARTS = """
    test_api test_asyncio test_consumer test_crontab test_helpers test_immediate test_priority test_registry
    test_serializer test_signals test_utils test_wrappers
"""
numbers = count()


def create_queue(broker: str, place: str) -> Queue:
    queue = ServedQueue(f"suite{next(numbers)}", utc=False)
    if broker == "redis":
        queue.storage = RedisStorage(queue.name, place, 60, read_timeout=0.05)
    else:
        queue.storage = SqliteStorage(queue.name, Path(place) / f"{queue.name}.db", 60, read_timeout=0.05)
    queue.store_none, queue.store_intermediate_errors = False, True
    return queue


def main(broker: str, place: str) -> None:
    base.BaseTestCase.get_huey = lambda self: create_queue(broker, place)
    base.BaseTestCase.consumer_class = Consumer
    bind(f"sqlite:///{tempfile.mkdtemp(dir=conftest.SCRATCH)}/library.db")
    migrate()
    names = [f"huey.tests.{part}" for part in PARTS.split()]
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromNames(names).run(result)
    failed: list[tuple[Any, str]] = result.failures + result.errors
    why = {test.id().removeprefix("huey.tests."): text.strip().splitlines()[-1] for test, text in failed}
    print(json.dumps({"ran": result.testsRun, "failed": why}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    finally:
        conftest.pytest_unconfigure()
