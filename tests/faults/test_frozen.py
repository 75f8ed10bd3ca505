"""Processes stand still for longer than a lease, and wake: SIGSTOP and SIGCONT."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from freezing import frozen_at_work
from reports import report
from sides import LEASE_SECONDS, Dewey, dewey_on
from storms import all_again, outlast
from waiting import wait_until


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    with dewey_on(request, tmp_path) as dewey:
        yield dewey


def test_who_is_overtaken_within_its_own_consumer_cannot_overwrite_the_result(system: Dewey) -> None:
    system.put(1, 1.5)
    consumer = system.start("-n")
    [late] = wait_until(system.ledger.busy)
    with frozen_at_work(system, consumer, lambda one: one.pid in (consumer.pid, late)) as system.hits:
        system.struck = 1
        wait_until(lambda: all_again(system, system.hits))
    assert report("overtaken", system).broken == []
    [run_id] = system.accepted
    assert system.ledger.ends[run_id][0].pid == late
    assert system.runs()[run_id].result != late
    assert system.attempts(run_id) == ["died", "succeeded"]


def test_a_machine_that_slept_past_the_lease_delivers_nothing_again(system: Dewey) -> None:
    system.put(1, LEASE_SECONDS + 3)
    consumer = system.start("-n")
    with frozen_at_work(system, consumer):
        outlast(LEASE_SECONDS + 1)
        # The scheduler wakes first and finds every sign of life too old.
        system.children(consumer)[0].resume()
        outlast(0.3)
    assert report("a machine slept", system).broken == []
    assert system.attempts(system.accepted[0]) == ["succeeded"]


def test_a_worker_that_stands_still_keeps_its_run_while_its_consumer_lives(system: Dewey) -> None:
    system.put(1, 0.5)
    consumer = system.start("-n")
    [still] = wait_until(system.ledger.busy)
    with frozen_at_work(system, consumer, lambda one: one.pid == still):
        outlast(LEASE_SECONDS + 2)
    assert report("one worker stood still", system).broken == []
    assert system.attempts(system.accepted[0]) == ["succeeded"]


def test_what_a_woken_consumer_takes_before_its_parent_speaks_is_its_own(system: Dewey) -> None:
    system.put(24, 0.8)
    woken, _ = system.start("-n"), system.start("-n")
    with frozen_at_work(system, woken) as system.hits:
        system.struck = 2
        wait_until(lambda: all_again(system, system.hits))
        for child in system.children(woken):
            child.resume()
        outlast(LEASE_SECONDS * 0.6)
    assert report("woken", system).broken == []
    assert system.ledger.twice() <= {hit.run_id for hit in system.hits}
