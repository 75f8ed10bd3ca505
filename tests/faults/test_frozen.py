"""Processes are stopped for longer than a lease, and continue: SIGSTOP and SIGCONT."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from freezing import frozen_at_work
from reports import report
from storm_systems import LEASE_SECONDS, Dewey, create_dewey
from storms import all_restarted, sleep_through
from waiting import wait_until


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    with create_dewey(request, tmp_path) as dewey:
        yield dewey


def test_overtaken_worker_cannot_overwrite_the_result(system: Dewey) -> None:
    system.put(1, 1.5)
    consumer = system.start("-n")
    [late] = wait_until(system.delivery_log.busy)
    with frozen_at_work(system, consumer, lambda process: process.pid in (consumer.pid, late)) as system.hits:
        system.struck = 1
        wait_until(lambda: all_restarted(system, system.hits))
    assert report("overtaken", system).broken == []
    [run_id] = system.accepted
    assert system.delivery_log.ends[run_id][0].pid == late
    assert system.runs()[run_id].result != late
    assert system.attempts(run_id) == ["died", "succeeded"]


def test_machine_that_slept_past_the_lease_redelivers_nothing(system: Dewey) -> None:
    system.put(1, LEASE_SECONDS + 3)
    consumer = system.start("-n")
    with frozen_at_work(system, consumer):
        sleep_through(LEASE_SECONDS + 1)
        # The scheduler wakes first and finds every heartbeat stale.
        system.children(consumer)[0].resume()
        sleep_through(0.3)
    assert report("a machine slept", system).broken == []
    assert system.attempts(system.accepted[0]) == ["succeeded"]


def test_frozen_worker_keeps_its_run_while_its_consumer_lives(system: Dewey) -> None:
    system.put(1, 0.5)
    consumer = system.start("-n")
    [still] = wait_until(system.delivery_log.busy)
    with frozen_at_work(system, consumer, lambda process: process.pid == still):
        sleep_through(LEASE_SECONDS + 2)
    assert report("one worker stood still", system).broken == []
    assert system.attempts(system.accepted[0]) == ["succeeded"]


def test_run_claimed_by_a_woken_worker_before_its_parent_runs_is_kept(system: Dewey) -> None:
    system.put(24, 0.8)
    woken, _ = system.start("-n"), system.start("-n")
    with frozen_at_work(system, woken) as system.hits:
        system.struck = 2
        wait_until(lambda: all_restarted(system, system.hits))
        for child in system.children(woken):
            child.resume()
        sleep_through(LEASE_SECONDS * 0.6)
    assert report("woken", system).broken == []
    assert system.delivery_log.twice() <= {hit.run_id for hit in system.hits}
