"""A broker that refuses commands counts as unavailable. Consumers survive every such state and resume."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from conftest import redis_6_executable, skip_or_fail
from consumers import ConsumerProcess
from outage_states import DATABASE_STATES, STATES
from refusing_redis import REFUSALS, RefusingRedis
from reports import report
from servers import RedisServer
from storm_systems import Dewey
from waiting import wait_until

from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.exceptions import BrokerUnavailable

T = TypeVar("T")


def dewey(folder: Path, server: RedisServer) -> Dewey:
    return Dewey(folder, server, f"sqlite:///{folder}/dewey.db")


@pytest.fixture(params=["7", "6.2"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    executable = redis_6_executable() if request.param == "6.2" else shutil.which("redis-server")
    if executable is None:
        skip_or_fail("no redis-server 7 on this machine")
    with dewey(tmp_path, RedisServer(tmp_path, executable=executable)) as system:
        yield system


def test_consumer_survives_every_refusing_state_of_redis(system: Dewey) -> None:
    consumer = system.start("-n", workers=1)
    family = system.children(consumer)
    for words, state in STATES.items():
        system.put(1, 0.5)
        wait_until(system.delivery_log.busy)
        begins = len(consumer.log)
        with state(system.broker):
            wait_for_refusal(consumer, words, begins)
        assert_works(system)
    assert system.children(consumer) == family, "no child was replaced"
    assert report("refused", system).broken == []


def wait_for_refusal(consumer: ConsumerProcess, words: str, since: int) -> None:
    """Wait until one of these errors, separated by `|`, is logged, and the worker has tried to settle its run. Some
    servers accept that command.
    """
    wait_until(lambda: re.search(words, consumer.log[since:]))
    wait_until(lambda: re.search(r"WARNING/Worker-1\]|succeeded in", consumer.log[since:]))


def assert_works(system: Dewey) -> None:
    """Assert that all runs end, and that one more does."""
    system.put(1, 0)
    wait_until(lambda: set(system.accepted) == set(system.delivery_log.read().ends))


def test_consumer_starts_while_redis_refuses(system: Dewey) -> None:
    system.put(1, 0)
    with STATES["READONLY"](system.broker):
        consumer = system.start("-n", workers=1)
        wait_for_refusal(consumer, "READONLY", 0)
    assert report("started refused", system).broken == []


def test_consumer_survives_every_refusing_reply(tmp_path: Path) -> None:
    """The list includes errors of a cluster, of a loading server, and of other versions of Redis."""
    broker = RefusingRedis(tmp_path)
    with dewey(tmp_path, broker) as system:
        consumer = system.start("-n", workers=1)
        family = system.children(consumer)
        for reply in REFUSALS:
            system.put(1, 0.2)
            wait_until(system.delivery_log.busy)
            begins = len(consumer.log)
            broker.refuse_all(reply)
            wait_for_refusal(consumer, re.escape(reply.partition(" script:")[0][-30:]), begins)
            broker.accept_all()
            assert_works(system)
        assert system.children(consumer) == family
        assert report("refused", system).broken == []


def test_refused_script_leaves_its_connection_in_step(tmp_path: Path) -> None:
    broker = RefusingRedis(tmp_path)
    broker.start()
    storage = RedisStorage("any", broker.url, 60)
    broker.refuse_some(0.3, seed=5)
    for minute in range(100):
        assert [
            retry_until_accepted(lambda minute=minute: storage.ticks.record("task", minute, Effects()))
            for _ in range(2)
        ] == [
            True,
            False,
        ]
        series = [(f"{minute}-{number}", b"data") for number in range(100)]
        with suppress(BrokerUnavailable):
            storage.messages.enqueue_batch(series, 1)
    assert broker.refused > 100
    broker.kill()


def retry_until_accepted(step: Callable[[], T]) -> T:
    """Repeat a step until it is accepted. Return its result."""
    while True:
        with suppress(BrokerUnavailable):
            return step()


# --- the database --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", DATABASE_STATES)
def test_history_waits_while_the_database_refuses(fresh_postgresql: str, tmp_path: Path, state: str) -> None:
    """Sessions are not terminated when the database accepts writes again."""
    with Dewey(tmp_path, None, fresh_postgresql) as system:
        consumer = system.start("-n", workers=1)
        family = system.children(consumer)
        with DATABASE_STATES[state](fresh_postgresql):
            system.put(3, 0)
            consumer.logged("The recorder is waiting")
            wait_until(lambda: set(system.accepted) == set(system.delivery_log.read().ends))
        assert system.children(consumer) == family
        assert report("refused", system).broken == []


def test_consumer_survives_a_full_disk_under_sqlite(tmp_path: Path) -> None:
    """A file size limit of the kernel stops writes beyond the current end of the broker's file."""
    with Dewey(tmp_path, None, f"sqlite:///{tmp_path}/dewey.db") as system:
        consumer = system.start("-n", workers=1)
        system.put(40, 0)
        wait_until(lambda: len(system.delivery_log.read().ends) == 40)
        family = [psutil.Process(consumer.pid), *system.children(consumer)]
        limit_files(family, (tmp_path / "queue.db-wal").stat().st_size)
        system.put(10, 0)
        consumer.logged("disk I/O error")
        wait_until(lambda: "WARNING/Worker-1]" in consumer.log)
        assert len(system.delivery_log.read().ends) < 50
        limit_files(family, psutil.RLIM_INFINITY)
        assert_works(system)
        assert system.children(consumer) == family[1:]
        assert report("full disk", system).broken == []


def limit_files(processes: list[psutil.Process], size: int) -> None:
    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
