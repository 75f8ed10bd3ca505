"""A broker that refuses counts as unavailable: consumers outlive every such state and work on."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import cannot_run, redis_6_executable
from consumers import Consumer
from refusing import REFUSALS, RefusingRedis
from reports import report
from servers import RedisServer
from sides import Dewey
from states import STATES
from waiting import wait_until


def dewey(folder: Path, server: RedisServer) -> Dewey:
    return Dewey(folder, server, f"sqlite:///{folder}/dewey.db")


@pytest.fixture(params=["7", "6.2"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    executable = redis_6_executable() if request.param == "6.2" else shutil.which("redis-server")
    if executable is None:
        cannot_run("no redis-server 7 on this machine")
    with dewey(tmp_path, RedisServer(tmp_path, executable=executable)) as system:
        yield system


def test_a_consumer_outlives_every_state_in_which_redis_refuses(system: Dewey) -> None:
    consumer = system.start("-n", workers=1)
    family = system.children(consumer)
    for words, state in STATES.items():
        system.put(1, 0.5)
        wait_until(system.ledger.busy)
        begins = len(consumer.log)
        with state(system.broker):
            refused(consumer, words, begins)
        works_on(system)
    assert system.children(consumer) == family, "no child was replaced"
    assert report("refused", system).broken == []


def refused(consumer: Consumer, words: str, since: int) -> None:
    """Wait until one of these words, parted by `|`, has been logged, and the worker has tried to settle its run: not
    every server refuses that too.
    """
    wait_until(lambda: re.search(words, consumer.log[since:]))
    wait_until(lambda: re.search(r"WARNING/Worker-1\]|succeeded in", consumer.log[since:]))


def works_on(system: Dewey) -> None:
    """All runs end, and one more does."""
    system.put(1, 0)
    wait_until(lambda: set(system.accepted) == set(system.ledger.read().ends))


def test_a_consumer_starts_while_redis_refuses(system: Dewey) -> None:
    system.put(1, 0)
    with STATES["READONLY"](system.broker):
        consumer = system.start("-n", workers=1)
        refused(consumer, "READONLY", 0)
    assert report("started refused", system).broken == []


def test_a_consumer_outlives_every_reply_that_refuses(tmp_path: Path) -> None:
    """Those too that only a cluster, a server that loads its data, or another version of Redis gives."""
    broker = RefusingRedis(tmp_path)
    with dewey(tmp_path, broker) as system:
        consumer = system.start("-n", workers=1)
        family = system.children(consumer)
        for reply in REFUSALS:
            system.put(1, 0.2)
            wait_until(system.ledger.busy)
            begins = len(consumer.log)
            broker.refuse_all(reply)
            refused(consumer, re.escape(reply.partition(" script:")[0][-30:]), begins)
            broker.accept_all()
            works_on(system)
        assert system.children(consumer) == family
        assert report("refused", system).broken == []
